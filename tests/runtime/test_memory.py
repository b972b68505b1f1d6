"""How a process holds its memory, in one of its own."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

LARGE = """
import torch
from alexnet.runtime.memory import give_back_memory, keep_memory

def in_large_pages():
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(line.split()[1]) >> 10 for line in file if line.startswith("AnonHugePages"))

keep_memory()
before = in_large_pages()
tensor = torch.ones(2**25)
found = in_large_pages() - before
del tensor
give_back_memory()
tensor = torch.ones(2**25)
print(found, in_large_pages() - before)
"""
CHOICE = Path("/sys/kernel/mm/transparent_hugepage/enabled")
SCRIPT = """
import torch
from alexnet.runtime.memory import give_back_memory, keep_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 >> 20

keep_memory()
tensors = [torch.ones(2**18) for _ in range(64)]
above, full = torch.ones(2**18), resident()
del tensors
kept = resident()
give_back_memory()
print(full - kept, kept - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these switches")
def test_freed_memory_is_kept_until_it_is_given_back():
    said = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True).stdout
    kept, given = map(int, said.split())
    assert kept <= 4 and given >= 56  # MiB, of 64


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these switches")
@pytest.mark.skipif(not CHOICE.exists() or "[never]" in CHOICE.read_text(), reason="this system has no large pages")
def test_what_is_kept_lies_in_large_pages():
    said = subprocess.run([sys.executable, "-c", LARGE], check=True, capture_output=True, text=True).stdout
    assert all(found >= 100 for found in map(int, said.split())), said  # MiB, of 128
