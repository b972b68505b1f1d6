"""A tar ends where its mark is and zeros follow to the end; zeros anywhere else are damage."""

import io
import tarfile

import pytest

from alexnet.data.archives import open_tar
from alexnet.runtime.errors import BadInputError


def tar_of(count):
    file = io.BytesIO()
    with tarfile.open(mode="w", fileobj=file) as tar:
        for number in range(count):
            member = tarfile.TarInfo(f"{number}.jpg")
            member.size = 100
            tar.addfile(member, io.BytesIO(b"x" * 100))
    return file.getvalue()


def test_zeros_in_the_middle_are_not_the_end(tmp_path):
    path = tmp_path / "a.tar"
    whole = tar_of(6)
    path.write_bytes(whole)
    assert len(open_tar(path)) == 6
    path.write_bytes(whole[: 3 * 1024] + bytes(512) + whole[3 * 1024 + 512 :])
    with pytest.raises(BadInputError, match=f"^{path}: damaged or cut short at byte 3,072 "):
        open_tar(path)
    path.write_bytes(whole[: 3 * 1024] + bytes(3 << 20))
    with pytest.raises(BadInputError, match=f"^{path}: damaged or cut short at byte 3,072 "):
        open_tar(path)
