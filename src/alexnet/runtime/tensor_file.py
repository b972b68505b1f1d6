"""A safetensors file written as its numbers come: the library wants all of them in memory first.

The format: the header's length in eight bytes, the header in JSON (the kind, shape and place of each tensor by name),
the tensors' bytes end to end.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import IO

import torch
from torch import Tensor

KINDS = {torch.float32: "F32", torch.float64: "F64"}
ALIGNED = 8  # bytes


@dataclass(frozen=True)
class Stream:
    """A network's tensors on their way into a file.

    kind     of all of them
    shapes   by name, in the order in which they come
    pieces   a tensor's name and some of its rows; the next rows follow, and then the next tensor's
    """

    kind: torch.dtype
    shapes: Mapping[str, torch.Size]
    pieces: Iterator[tuple[str, Tensor]]


def stream_of(tensors: Mapping[str, Tensor]) -> Stream:
    """Tensors of one kind that are all here."""
    names = sorted(tensors)
    shapes = {name: tensors[name].shape for name in names}
    return Stream(tensors[names[0]].dtype, shapes, ((name, tensors[name]) for name in names))


def write(file: IO[bytes], stream: Stream) -> str:
    """Write a safetensors file; its SHA-256. Raises ValueError at the first value that is not finite."""
    digest = sha256()
    for content in _contents(stream):
        digest.update(content)
        file.write(content)
    return digest.hexdigest()


def finite(tensor: Tensor) -> bool:
    """Whether all values are; without a second tensor of its size."""
    return bool(torch.linalg.vector_norm(tensor, torch.inf).isfinite()) if tensor.numel() else True


def _contents(stream: Stream) -> Iterator[bytes | memoryview]:
    yield _header(stream)
    for name, piece in stream.pieces:
        if not finite(piece):
            raise ValueError(f"{name} holds a value that is not finite")
        yield piece.detach().cpu().flatten().view(torch.uint8).numpy().data


def _header(stream: Stream) -> bytes:
    entries, end = {}, 0
    for name, shape in stream.shapes.items():
        begin, end = end, end + shape.numel() * stream.kind.itemsize
        entries[name] = {"dtype": KINDS[stream.kind], "shape": list(shape), "data_offsets": [begin, end]}
    header = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % ALIGNED)
    return len(header).to_bytes(8, "little") + header
