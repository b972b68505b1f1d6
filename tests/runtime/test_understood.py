"""What goes wrong, in a user's words: one line that names the place and the remedy, and its exit code."""

import pytest
import torch

from alexnet.runtime.errors import BadInputError, understood


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (BadInputError("it: is bad; mend it"), 3, "it: is bad; mend it"),
        (PermissionError(13, "Permission denied", "photos"), 4,
         "photos: cannot be used: permission denied; check its permissions"),
        (OSError(28, "No space left on device"), 4,
         "train: cannot be used: no space left on device; free some space, or choose another folder"),
        (MemoryError(), 4, "memory: not enough; end other programs, or "),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you"), 4, "memory: not enough"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), 4, "memory: not enough; end other programs, or "),
    ],
)  # fmt: skip
def test_it_is_told_in_one_line(error, code, line):
    told = understood(error, "train")
    assert told.exit_code == code and str(told).startswith(line)


def test_a_defect_of_ours_is_not_explained_away():
    assert understood(RuntimeError("shapes"), "train") is None
