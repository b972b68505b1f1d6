"""Processes of one machine that see each other's memory: real ones, and such as cannot."""

import os
import time

import pytest
import torch

from alexnet.runtime import neighbours
from alexnet.runtime.neighbours import Neighbours
from alexnet.runtime.ranks import ALONE
from company import together

linux = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="files without a name are Linux's")
COUNTS = (1, 7, 16, 40, 100)


def at(ranks, places):
    """This process's neighbours where each rank is at such a place."""
    neighbours._place = lambda: places[ranks.rank]
    return ranks.neighbours()


def written(ranks, places):
    """What neighbours read: what each had put there, the last one late; then each's number; files left open."""
    found = at(ranks, places)
    if not found:
        return None
    if ranks.rank == ranks.world - 1:
        found.rows = lambda count: time.sleep(0.05) or Neighbours.rows(found, count)
    kinds = torch.float32, torch.bfloat16
    common = found.in_common([torch.full((count, 3), 7 + ranks.rank, dtype=kind) for count in COUNTS for kind in kinds])
    put = [each[:, 1].tolist() for each in common]
    found.wait()
    for each in common:
        each[found.rows(len(each))] = ranks.rank
    found.wait()
    read = [each[:, 2].tolist() for each in common]
    links = [os.path.realpath(f"/proc/self/fd/{file}") for file in os.listdir("/proc/self/fd")]
    return put, read, [link for link in links if "memfd" in link]


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
        put, read, left = found
        assert read == [shared_out(count, among) for count in COUNTS for _ in range(2)]
        assert put == [[7 + rank for rank in each] for each in read], "each puts its own rows there, and no others"
        assert not left


@linux
def test_rows_are_each_ones_own():
    assert shared_out(40, [0, 1]) == [0.0] * 16 + [1.0] * 24
    assert shared_out(7, [0, 1]) == [1.0] * 7


def failing(ranks, where, path):
    """What there is in common where one of two processes cannot make the memory or see it, or it is somebody's file."""

    def refuse(*_, **__):
        raise OSError if where == "made" else RuntimeError

    if where == "seen" and ranks.rank == 1:
        torch.from_file = refuse
    elif ranks.rank == 0:
        os.memfd_create = refuse if where == "made" else lambda name: os.open(path, os.O_RDWR)
    return at(ranks, "aa").in_common([torch.ones(3, 3)])


@linux
@pytest.mark.parametrize("where", ["made", "seen", "another's"])
def test_who_cannot_see_it_has_nothing_in_common(tmp_path, where):
    path = tmp_path / "somebody's"
    path.write_text("as it was")
    assert together(2, failing, where, path) == [None, None]
    assert path.read_text() == "as it was"


def without_input(ranks):
    """Whether there is anything in common where the first file that is opened has the number 0."""
    found = at(ranks, "aa")
    os.close(0)
    return found.in_common([torch.ones(3, 3)]) is not None


@linux
def test_a_process_without_standard_input_has_something_in_common():
    assert together(2, without_input) == [True, True]


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
