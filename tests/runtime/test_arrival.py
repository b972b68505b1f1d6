"""How processes find each other: which of them have one GPU between them."""

import pytest

from alexnet.runtime.arrival import shared
from alexnet.runtime.errors import MachineError


@pytest.mark.parametrize(
    ("gpus", "sharing"),
    [
        (["node0 none", "node1 none"], False),
        (["node0 GPU-1"], False),
        (["node0 GPU-1", "node0 GPU-2"], False),
        (["node0 GPU-1", "node0 GPU-1"], True),
        (["node0 GPU-1", "node1 GPU-1"], False),  # the cards' numbers are their own machine's
    ],
)
def test_processes_share_a_gpu_where_they_have_the_same(gpus, sharing):
    """However many each of them sees: a scheduler may show each its own alone."""
    assert shared(gpus) == sharing


def test_processes_of_several_machines_cannot_share_one():
    with pytest.raises(MachineError, match=r"^node1: has fewer GPUs than processes"):
        shared(["node0 GPU-1", "node0 GPU-2", "node1 GPU-1", "node1 GPU-1"])


def test_a_process_that_sees_no_gpu_is_named():
    with pytest.raises(MachineError, match=r"^rank 1 \(on node1\): sees no GPU, others do"):
        shared(["node0 GPU-1", "node1 none"])
