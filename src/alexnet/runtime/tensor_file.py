"""A safetensors file written as its numbers come: the library wants all of them in memory first.

The format: the header's length in eight bytes, the header in JSON (the kind, shape and place of each tensor by name),
the tensors' bytes end to end.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from operator import itemgetter
from typing import IO

import torch
from torch import Tensor

from alexnet.runtime.errors import DivergedError

KINDS = {torch.float32: "F32", torch.float64: "F64"}
ALIGNED = 8  # bytes


@dataclass(frozen=True)
class Stream:
    """A network's tensors on their way into a file.

    kind     of all of them
    shapes   by name, in the order in which they come
    pieces   a tensor's name and some of its rows, float[rows, ...]; its next rows follow, and then the next tensor's
    """

    kind: torch.dtype
    shapes: Mapping[str, torch.Size]
    pieces: Iterator[tuple[str, Tensor]]


def write(file: IO[bytes], stream: Stream) -> str:
    """Write a safetensors file; its SHA-256.

    Raises DivergedError at the first value that is not finite, ValueError where the pieces are not what was announced.
    """
    digest = sha256()
    for content in _contents(stream):
        digest.update(content)
        file.write(content)
    return digest.hexdigest()


def finite(tensor: Tensor) -> bool:
    """Whether all values of a tensor of floats are; without a second one of its size."""
    return bool(torch.linalg.vector_norm(tensor, torch.inf).isfinite()) if tensor.numel() else True


def _contents(stream: Stream) -> Iterator[bytes | memoryview]:
    yield _header(stream)
    tensors = groupby(stream.pieces, key=itemgetter(0))
    for (name, shape), (found, pieces) in zip(stream.shapes.items(), tensors, strict=True):
        missing = shape.numel() * stream.kind.itemsize
        for _, piece in pieces:
            if not finite(piece):
                raise DivergedError(f"{found} holds a value that is not finite")
            missing -= piece.nbytes
            yield piece.detach().cpu().flatten().view(torch.uint8).numpy().data
        if found != name or missing:
            raise ValueError(f"{found}: {missing} bytes fewer than the header says of {name}")


def _header(stream: Stream) -> bytes:
    entries, end = {}, 0
    for name, shape in stream.shapes.items():
        begin, end = end, end + shape.numel() * stream.kind.itemsize
        entries[name] = {"dtype": KINDS[stream.kind], "shape": list(shape), "data_offsets": [begin, end]}
    header = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % ALIGNED)
    return len(header).to_bytes(8, "little") + header
