"""How a process holds its memory, in one of its own."""

import platform
import subprocess
import sys

import pytest

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
