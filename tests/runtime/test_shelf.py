"""A folder of files behind an address: what it names stays below it, and what is fetched is whole or not there."""

import errno
import os

import fsspec
import pytest

from alexnet.runtime.errors import BadInputError, MachineError
from alexnet.runtime.shelf import Shelf


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("ALEXNET_CACHE", str(tmp_path / "cache"))
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "shard.tar").write_bytes(b"content")
    (tmp_path / "secret").write_bytes(b"not below it")
    return tmp_path / "far"


def test_a_file_is_fetched_once(place):
    shelf = Shelf(f"file://{place}")
    fetched = shelf.file("shard.tar")
    assert fetched.read_bytes() == b"content" and place not in fetched.parents
    (place / "shard.tar").unlink()
    assert shelf.file("shard.tar") == fetched and shelf.has("shard.tar")


@pytest.mark.parametrize("name", ["{out}", "../secret", "sub/../../secret", "/etc/hostname", "..\\secret", ""])
def test_a_name_that_leads_elsewhere_is_refused_and_nothing_is_written(place, tmp_path, name):
    shelf, out = Shelf(f"file://{place}"), tmp_path / "out.pth"
    before = sorted(tmp_path.rglob("*"))
    for ask in (shelf.file, shelf.has):
        with pytest.raises(BadInputError, match="names a file that is not below it"):
            ask(name.format(out=out))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device"), ValueError("odd")])
def test_a_fetch_that_is_stopped_leaves_nothing(place, tmp_path, monkeypatch, error):
    files = fsspec.filesystem("file")

    def get_file(where, to):
        with open(to, "wb") as file:
            file.write(b"half")
        raise error

    monkeypatch.setattr(type(files), "get_file", staticmethod(get_file))
    with pytest.raises((KeyboardInterrupt, Exception)):
        Shelf(f"file://{place}").file("shard.tar")
    left = [name for _, _, names in os.walk(tmp_path / "cache") for name in names]
    assert left == []


@pytest.mark.parametrize("number", [errno.EFBIG, errno.EROFS, errno.ENOSPC])
def test_what_this_machine_refuses_is_not_the_addresss_fault(place, monkeypatch, number):
    def get_file(where, to):
        raise OSError(number, "refused")

    monkeypatch.setattr(type(fsspec.filesystem("file")), "get_file", staticmethod(get_file))
    with pytest.raises(MachineError, match="cannot write: refused"):
        Shelf(f"file://{place}").file("shard.tar")
