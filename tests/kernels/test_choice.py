"""The one place that decides which form of a kernel computes, and what people are told."""

import pytest
import torch

from alexnet.kernels import choice
from alexnet.kernels.choice import notice, way


@pytest.mark.parametrize(
    ("dtype", "chosen"),
    [(torch.float32, "numba"), (torch.float64, "numba"), (torch.bfloat16, "numba"), (torch.float16, "plain")],
)
def test_on_a_processor_numba_compiles_for_the_kinds_it_knows(monkeypatch, dtype, chosen):
    monkeypatch.setattr(choice, "AVAILABLE", True)
    assert way(torch.zeros(2, dtype=dtype)) == chosen
    monkeypatch.setattr(choice, "AVAILABLE", False)
    assert way(torch.zeros(2, dtype=dtype)) == "plain"


def test_a_device_that_nothing_is_compiled_for_computes_plainly():
    assert way(torch.zeros(2, device="meta")) == "plain"
    assert notice(torch.device("meta")) == "no compiled kernels here: the same results, several times slower"


def test_who_lacks_a_compiler_is_told_which(monkeypatch):
    monkeypatch.setattr(choice, "AVAILABLE", True)
    assert notice(torch.device("cpu")) is None
    monkeypatch.setattr(choice, "AVAILABLE", False)
    assert notice(torch.device("cpu")).endswith(
        "several times slower; see that numba is installed and not switched off"
    )
