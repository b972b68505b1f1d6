"""Stores made small, for several files of tests."""

from alexnet.data.preparation import Preparation
from alexnet.data.prepare import prepare
from alexnet.data.sources import open_dataset
from alexnet.data.store import open_store
from alexnet.runtime.shelf import Shelf

SIDE = 32
KINDS = ("jpeg", "pixels")


def quiet(done, total):
    assert 0 <= done <= total


def made(source, store, kind="pixels", skip=0, threads=None, **options):
    how = Preparation(kind, **{"side": SIDE} | options)
    return prepare(open_dataset(str(source)), store, how, quiet, skip, threads)


def opened(store):
    return open_store(Shelf(str(store)))


def contents(store):
    """Every file of a store and its bytes, but for the lock."""
    return {file.name: file.read_bytes() for file in store.iterdir() if file.name != ".lock"}
