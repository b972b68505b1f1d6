"""A store of each kind, and shards small enough that a few pictures fill several."""

import pytest
from storing import KINDS, made

from alexnet.data import making


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(making, "SHARD", {"jpeg": 7, "pixels": 7})


@pytest.fixture(scope="session")
def stores(pictures, tmp_path_factory):
    """The store of `pictures`, by kind. Read only: copy before you change it."""
    folder = tmp_path_factory.mktemp("stores")
    for kind in KINDS:
        made(pictures, folder / kind, kind)
    return {kind: folder / kind for kind in KINDS}
