"""Processes of one machine that see each other's memory: real ones, and such as cannot."""

import os

import pytest
import torch

from alexnet.runtime import neighbours
from alexnet.runtime.ranks import ALONE
from company import together

linux = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="files without a name are Linux's")
COUNTS = (1, 7, 16, 40, 100)


def at(ranks, places):
    """This process's neighbours where each rank is at such a place."""
    neighbours._place = lambda: places[ranks.rank]
    return ranks.neighbours()


def written(ranks, places):
    """Who the neighbours are, and what each reads once each has written its number to its own rows; files left open."""
    found = at(ranks, places)
    if not found:
        return None
    tensors = [torch.full((count, 3), 7, dtype=kind) for count in COUNTS for kind in (torch.float32, torch.bfloat16)]
    common = found.in_common(tensors)
    found.wait()
    same = [torch.equal(*pair) for pair in zip(common, tensors, strict=True)]
    found.wait()
    for each in common:
        each[found.rows(len(each))] = ranks.rank
    found.wait()
    read = [each[:, 1].tolist() for each in common]
    left = [
        name for file in os.listdir("/proc/self/fd") if "memfd" in (name := os.path.realpath(f"/proc/self/fd/{file}"))
    ]
    return all(same), read, left


def shared_out(count, among):
    """Sixteens of rows, as evenly as they go."""
    blocks = -(-count // 16)
    ends = [min(count, 16 * (blocks * number // len(among))) for number in range(len(among) + 1)]
    return [float(rank) for number, rank in enumerate(among) for _ in range(ends[number], ends[number + 1])]


@linux
@pytest.mark.parametrize("places", ["aa", "aaa", "abab", "aab"])
def test_what_one_writes_its_neighbours_read(places):
    for rank, found in enumerate(together(len(places), written, places)):
        among = [other for other, place in enumerate(places) if place == places[rank]]
        if len(among) == 1:
            assert found is None
            continue
        same, read, left = found
        assert same and not left
        assert read == [shared_out(count, among) for count in COUNTS for _ in range(2)]


@linux
def test_rows_are_each_ones_own():
    assert shared_out(40, [0, 1]) == [0.0] * 16 + [1.0] * 24
    assert shared_out(7, [0, 1]) == [1.0] * 7


def failing(ranks, where):
    """What there is in common where one of two processes cannot see the other's memory, or none can be made."""

    def refuse(*_, **__):
        raise OSError if where == "made" else RuntimeError

    if ranks.rank == (0 if where == "made" else 1):
        (os if where == "made" else torch).__dict__["memfd_create" if where == "made" else "from_file"] = refuse
    return at(ranks, "aa").in_common([torch.ones(3, 3)])


@linux
@pytest.mark.parametrize("where", ["made", "seen"])
def test_who_cannot_see_it_has_nothing_in_common(where):
    assert together(2, failing, where) == [None, None]


def elsewhere(ranks):
    """Whether there are neighbours on a system that has no such memory."""
    vars(os).pop("memfd_create", None)
    return ranks.neighbours() is None


def test_other_systems_have_no_neighbours():
    assert together(2, elsewhere) == [True, True]


@linux
def test_a_process_alone_has_none():
    assert ALONE.neighbours() is None
    assert neighbours._place()
