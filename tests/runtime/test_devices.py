"""Which device and precision are chosen, as far as a machine without a GPU can tell."""

import pytest
import torch

from alexnet.runtime.devices import this_machine


@pytest.mark.parametrize(("units", "products"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_gpu_is_taken_and_its_library_told_to_compute_the_same_each_time(monkeypatch, units, products):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: units and not including_emulation)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    machine = this_machine()
    assert (machine.device.type, machine.products) == ("cuda", products)
    assert torch.backends.cudnn.deterministic
