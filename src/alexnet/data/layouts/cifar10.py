"""CIFAR-10's own files: the python batches and the binary batches, as the author distributes them."""

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet.data.pictures import Dataset, Pictures
from alexnet.runtime.errors import BadInputError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TRAINING = tuple(f"data_batch_{number}" for number in range(1, 6))
HELD_OUT = "test_batch"
FOLDERS = ("", "cifar-10-batches-py", "cifar-10-batches-bin")
RECORD = 1 + 3 * 32 * 32  # bytes: a label, then three planes of 32 x 32

Batch = tuple[NDArray[np.int64], NDArray[np.uint8]]  # int64[N], uint8[N, 3072]


def cifar_folder(path: Path) -> Path | None:
    """The folder in or under `path` that holds CIFAR-10's own files, if one does."""
    candidates = (path / folder for folder in FOLDERS)
    return next((folder for folder in candidates if any(folder.glob("data_batch_1*"))), None)


def read_cifar10(folder: Path) -> Dataset:
    """Read the five training batches and the test batch. Raises BadInputError for a missing or damaged file."""
    binary = (folder / "data_batch_1.bin").exists()
    ending, read = (".bin", _read_binary) if binary else ("", _read_python)
    kind = "binary" if binary else "python"
    training = _pictures([folder / (name + ending) for name in TRAINING], read)
    held_out = _pictures([folder / (HELD_OUT + ending)], read)
    return Dataset(f"CIFAR-10's {kind} files", CLASSES, training, held_out, "the test batch")


def _pictures(files: list[Path], read: Callable[[bytes], Batch]) -> Pictures:
    labels, planes, keys = [], [], []
    for file in files:
        try:
            some_labels, some_planes = read(file.read_bytes())
        except FileNotFoundError:
            raise BadInputError(f"{file}: missing; fetch CIFAR-10 again") from None
        except Exception as error:  # whatever damaged bytes make of the reader
            raise BadInputError(f"{file}: not a CIFAR-10 batch ({error}); fetch it again") from error
        labels.append(some_labels)
        planes.append(some_planes)
        keys += [f"{file.name}:image {number}" for number in range(len(some_labels))]
    pixels = np.concatenate(planes).reshape(-1, 3, 32, 32)
    where = f"{files[0].parent}/"
    return Pictures(np.concatenate(labels), keys, where, lambda i: np.ascontiguousarray(pixels[i].transpose(1, 2, 0)))


def _read_binary(content: bytes) -> Batch:
    records = np.frombuffer(content, np.uint8)
    if len(records) == 0 or len(records) % RECORD:
        raise ValueError(f"{len(records)} bytes are no multiple of {RECORD}")
    records = records.reshape(-1, RECORD)
    return _checked(records[:, 0].astype(np.int64), records[:, 1:])


def _read_python(content: bytes) -> Batch:
    batch = _OnlyArrays(io.BytesIO(content), encoding="bytes").load()
    return _checked(np.array(batch[b"labels"], dtype=np.int64), np.asarray(batch[b"data"], dtype=np.uint8))


def _checked(labels: NDArray[np.int64], planes: NDArray[np.uint8]) -> Batch:
    if planes.shape != (len(labels), RECORD - 1) or labels.min() < 0 or labels.max() >= len(CLASSES):
        raise ValueError(f"{len(labels)} labels and data of shape {planes.shape}")
    return labels, planes


class _OnlyArrays(pickle.Unpickler):
    """A pickle may name any function to call; this reads those that make an array, and refuses the rest."""

    ALLOWED = frozenset(
        (module, name)
        for module in ("numpy.core.multiarray", "numpy._core.multiarray", "numpy")
        for name in ("_reconstruct", "ndarray", "dtype", "scalar")
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)
