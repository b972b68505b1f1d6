"""Files written as their numbers come are the library's own, to the byte."""

import io
from hashlib import sha256

import pytest
import torch
from safetensors.torch import load
from safetensors.torch import save as by_the_library

from alexnet.runtime.errors import DivergedError
from alexnet.runtime.tensor_file import Stream, finite, write
from company import stream_of

TENSORS = {
    "fc8.weight": torch.arange(60.0).view(5, 12),
    "fc8.bias": torch.tensor(-0.0),
    "conv1.weight": torch.arange(96.0).view(2, 3, 4, 4).to(memory_format=torch.channels_last),
    "conv1.bias": torch.empty(0, 3),
    'a "name" with ü, \\ and spaces': torch.tensor([1e-42, 3e38]),
}


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", range(1, 6))
def test_the_bytes_are_the_librarys(kind, count):
    tensors = {name: tensor.to(kind) for name, tensor in list(TENSORS.items())[:count]}
    file = io.BytesIO()
    digest = write(file, stream_of(tensors))
    assert file.getvalue() == by_the_library({name: tensor.contiguous() for name, tensor in tensors.items()})
    assert digest == sha256(file.getvalue()).hexdigest()


def test_rows_may_come_in_pieces_and_from_a_network_that_learns():
    rows = torch.nn.Parameter(TENSORS["fc8.weight"].clone()).split(2)
    file = io.BytesIO()
    write(file, Stream(torch.float32, {"fc8.weight": torch.Size((5, 12))}, iter([("fc8.weight", row) for row in rows])))
    assert torch.equal(load(file.getvalue())["fc8.weight"], TENSORS["fc8.weight"])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", [0, 3, 64, 100_002])
def test_finite_is_every_value(value, place):
    numbers = torch.full((100_003,), 3e38)  # whose sum is not
    assert finite(numbers) and finite(-numbers) and finite(numbers[:0])
    numbers[-1 - place] = float("inf")
    numbers[place] = value
    assert not finite(numbers)
    with pytest.raises(DivergedError, match="w holds a value that is not finite"):
        write(io.BytesIO(), stream_of({"a": torch.zeros(3), "w": numbers}))


PIECE = torch.ones(2, 3)


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [("a", PIECE)],
        [("a", PIECE), ("b", PIECE), ("b", PIECE)],
        [("a", PIECE), ("b", PIECE), ("c", PIECE)],
        [("b", PIECE), ("a", PIECE)],
        [("a", PIECE), ("b", PIECE.double())],
        [("a", PIECE), ("b", PIECE[:1])],
    ],
)
def test_a_file_is_what_its_header_says_or_is_none(pieces):
    with pytest.raises(ValueError, match=r"bytes fewer than the header says|argument 2 is (shorter|longer)"):
        write(io.BytesIO(), Stream(torch.float32, {"a": PIECE.shape, "b": PIECE.shape}, iter(pieces)))
