"""WebDataset's shards in miniature."""

import io
import tarfile

import pytest
from alike import PIXEL

from alexnet.data.layouts.webdataset import read_webdataset
from alexnet.data.pictures import check_learnable
from alexnet.runtime.errors import BadInputError

CLASSES = ["blue", "green", "red"]


def tar(path, *members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def sample(key, label, picture=PIXEL):
    return (f"{key}.png", picture), (f"{key}.cls", str(label).encode())


def shard(path, *labels):
    """One sample of each label."""
    return tar(path, *(member for key, label in enumerate(labels) for member in sample(f"{key:04}", label)))


def write_shards(root, named, rows, each=5):
    """The rows in shards of five; `named` has the shard's number in it."""
    for number, start in enumerate(range(0, len(rows), each)):
        members = [
            member
            for key, (name, content) in enumerate(rows[start : start + each], start)
            for member in sample(f"{key:05}", CLASSES.index(name), content)
        ]
        tar(root / named.format(number), *members)


def refusal(source):
    with pytest.raises(BadInputError) as told:
        check_learnable(read_webdataset(str(source)))
    assert "\n" not in str(told.value) and "; " in str(told.value)
    return str(told.value)
