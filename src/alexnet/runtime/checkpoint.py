"""Checkpoints: weights and velocity as safetensors, the rest as JSON, and a manifest with the digest of each.

A checkpoint is a folder `step-000000123`; it exists only under its final name, and counts only when its digests agree.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from alexnet.runtime.commit import PARTIAL, whole_folder
from alexnet.runtime.errors import BadInputError, MachineError

FORMAT = 1
WEIGHTS, VELOCITY, STATE = "weights.safetensors", "velocity.safetensors", "state.json"
KEPT = 2  # the newest checkpoint and the one before it
NAME = "step-{:09d}"


@dataclass(frozen=True)
class Checkpoint:
    """What is needed to go on: weights and velocity by parameter name, float32, and the loop's own numbers."""

    weights: dict[str, Tensor]
    velocity: dict[str, Tensor]
    state: dict[str, Any]


def save(folder: Path, step: int, checkpoint: Checkpoint) -> None:
    """Write the checkpoint of `step`, then forget all but the two newest.

    Raises MachineError when the machine refuses (the older checkpoints are then untouched), ValueError for a value
    that is not finite: such a checkpoint is never written.
    """
    for name, tensor in (*checkpoint.weights.items(), *checkpoint.velocity.items()):
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} holds a value that is not finite")
    path = folder / NAME.format(step)
    with whole_folder(path) as partial:
        digests = {
            WEIGHTS: _write(partial / WEIGHTS, _to_bytes(checkpoint.weights)),
            VELOCITY: _write(partial / VELOCITY, _to_bytes(checkpoint.velocity)),
            STATE: _write(partial / STATE, json.dumps(checkpoint.state, indent=2).encode()),
        }
        manifest = {"format": FORMAT, "sha256": digests}
        (partial / "manifest.json").write_text(json.dumps(manifest, indent=2))
        if path.exists():  # the same step again, judged since: the old one stays until the new one is written
            _remove(path)
    for old in _folders(folder)[:-KEPT]:
        _remove(old)


def newest(folder: Path, notice: Callable[[str], None] | None = None, only: str = "") -> Path | None:
    """The checkpoint of the highest step whose digests agree; None where there is none at all.

    Each damaged one is passed over and told to `notice` in a line; `only` looks at one file of each.
    Raises BadInputError when all are damaged.
    """
    damaged = ""
    for path in reversed(_folders(folder)):
        fault = _faults(path, only)
        if not fault:
            return path
        damaged = damaged or fault
        if notice:
            notice(f"{fault}; going back to the checkpoint before it")
    if damaged:
        raise BadInputError(f"{damaged}; no other checkpoint is whole: train again")
    return None


def load(path: Path) -> Checkpoint:
    """Read a checkpoint whole. Raises BadInputError naming the damaged file."""
    if fault := _faults(path):
        raise BadInputError(f"{fault}; train again")
    state = json.loads((path / STATE).read_text())
    return Checkpoint(read_tensors(path / WEIGHTS), read_tensors(path / VELOCITY), state)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name. Raises BadInputError when it is missing or damaged."""
    try:
        return tensors_from_bytes(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise BadInputError(f"{path}: cannot be read ({error}); train again") from error


def _remove(path: Path) -> None:
    trash = path.with_name(f".{path.name}.old{PARTIAL}")
    path.rename(trash)  # a half-removed folder must not look like a checkpoint
    shutil.rmtree(trash)


def _to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    try:
        return tensors_to_bytes({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    except MemoryError:
        raise MachineError("checkpoint: not enough memory to write it; end other programs") from None


def _write(path: Path, content: bytes) -> str:
    """The digest of what is written; the content of one file at a time is in memory."""
    path.write_bytes(content)
    return _digest(content)


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if path.is_dir() and path.name[5:].isdigit())


def _faults(path: Path, only: str = "") -> str:
    """What is wrong with a checkpoint, in words; empty when it is whole."""
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        if manifest["format"] != FORMAT:
            return f"{path}: written by another version (format {manifest['format']})"
        for name in [only] if only else [WEIGHTS, VELOCITY, STATE]:
            if _digest((path / name).read_bytes()) != manifest["sha256"][name]:
                return f"{path / name}: damaged (its digest differs)"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{path}: damaged ({error})"
    return ""
