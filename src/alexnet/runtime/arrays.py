"""Arrays in a safetensors file whose digest stands in its own header and is checked on reading.

safetensors has no checksum: a flipped bit in a mean image would otherwise be subtracted from every picture in silence.
"""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from alexnet.runtime.commit import write_whole
from alexnet.runtime.errors import BadInputError

Arrays = Mapping[str, NDArray[Any]]


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write named arrays, whole or not at all."""
    laid_out = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    write_whole(path, save(laid_out, metadata={"sha256": _digest(laid_out)}))


def to_bytes(arrays: Arrays) -> bytes:
    """Named arrays for another process."""
    return save({name: np.asarray(array, order="C") for name, array in arrays.items()})


def from_bytes(content: bytes) -> dict[str, NDArray[Any]]:
    """The arrays that another process sent."""
    return load(content)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read them back. Raises BadInputError naming the file when it is missing, damaged or none of ours."""
    try:
        with safe_open(path, framework="numpy") as file:  # type: ignore[no-untyped-call]
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
            expected = (file.metadata() or {}).get("sha256")
    except (OSError, SafetensorError) as error:
        raise BadInputError(f"{path}: cannot be read ({error}); train again") from error
    if _digest(arrays) != expected:
        raise BadInputError(f"{path}: damaged (its digest differs); train again")
    return arrays


def _digest(arrays: Arrays) -> str:
    content = sha256()
    for name, array in sorted(arrays.items()):
        content.update(f"{name} {array.dtype} {array.shape}\n".encode())
        content.update(array.tobytes())
    return content.hexdigest()
