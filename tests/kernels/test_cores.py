"""Shares of a kernel's work: every number once, on any number of threads, PyTorch's or our own; failures come back."""

import os
import subprocess
import sys
from threading import Lock, get_ident, get_native_id

import numpy as np
import pytest
import torch

from alexnet.kernels import cores
from alexnet.kernels.cores import LINE, Scratch, on_all_cores


@pytest.fixture(params=["PyTorch's", "our own"])
def threads(request, monkeypatch):
    if request.param == "our own":
        monkeypatch.setattr(cores, "_openmp", lambda: None)
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2, 3, 100])
@pytest.mark.parametrize("number", [1, 2, 3, 8])
def test_every_number_is_worked_on_once(threads, number, count):
    threads(number)
    done, lock = [], Lock()

    def kernel(first, last, word):
        assert word == "argument"
        with lock:
            done.extend(range(first, last))

    on_all_cores(kernel, count, "argument")
    assert sorted(done) == list(range(count))


def test_two_threads_take_part(threads):
    threads(2)
    torch.randn(512, 512) @ torch.randn(512, 512)  # PyTorch has begun its threads
    seen, lock = set(), Lock()

    def kernel(first, last):
        if first < last:
            with lock:
                seen.add(get_ident())

    on_all_cores(kernel, 10)
    assert len(seen) in (1, 2)  # a pool's first thread may be done before the second begins
    if cores._openmp():
        assert len(seen) == 2


@pytest.mark.skipif(cores._openmp() is None, reason="PyTorch's threads are not OpenMP's here")
@pytest.mark.parametrize("threads", ["PyTorch's"], indirect=True)
def test_little_work_does_not_end_threads_that_the_next_work_needs(threads):
    threads(4)
    seen, lock = set(), Lock()

    def kernel(first, last):
        if first < last:
            with lock:
                seen.add(get_native_id())

    for _ in range(5):
        for count in (100, 2):
            on_all_cores(kernel, count)
    assert len(seen) <= 4


@pytest.mark.parametrize("kind", [np.float32, np.uint16, np.float64])
@pytest.mark.parametrize("zeros", [False, True])
def test_each_share_has_scratch_of_its_own_that_begins_with_a_line(threads, kind, zeros):
    threads(3)
    seen, lock = [], Lock()

    def kernel(first, last, scratch, word):
        assert word == "argument"
        if first < last:
            assert (len(scratch), scratch.dtype, scratch.ctypes.data % LINE) == (37, kind, 0)
            assert not (zeros and scratch.any())
            scratch[:] = first + 1
            with lock:
                seen.append(scratch)

    for _ in range(2):  # the second time there is something where scratch is made
        seen.clear()
        on_all_cores(kernel, 10, Scratch(37, kind, zeros), "argument")
    assert len({each.ctypes.data for each in seen}) == len(seen) > 1
    assert all((each == each[0]).all() for each in seen)


def test_a_failure_in_another_thread_is_raised_here(threads):
    threads(2)

    def kernel(first, last):
        if last == 10:
            raise ZeroDivisionError("the last one")

    with pytest.raises(ZeroDivisionError, match="the last one"):
        on_all_cores(kernel, 10)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere PyTorch has other threads")
def test_pytorchs_own_threads_are_found_here():
    assert cores._openmp() is not None


BESIDE_ANOTHER = """
import os
import sklearn.datasets, sklearn.neighbors  # which bring an OpenMP library of their own
import torch
from alexnet.kernels.cores import on_all_cores
torch.set_num_threads(2)
torch.randn(512, 512) @ torch.randn(512, 512)
before = len(os.listdir("/proc/self/task"))
on_all_cores(lambda first, last: None, 10)
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(cores._openmp() is None, reason="PyTorch's threads are not OpenMP's here")
def test_another_package_with_openmp_does_not_lend_us_its_threads():
    pytest.importorskip("sklearn")
    words = [sys.executable, "-c", BESIDE_ANOTHER]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "2"})
    assert done.stdout.split() == ["0"]
