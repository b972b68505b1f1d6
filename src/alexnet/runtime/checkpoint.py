"""Checkpoints: weights and velocity as safetensors, the rest as JSON, and a manifest with the digest of each.

A checkpoint is a folder `step-000000123`; it exists only under its final name, and counts only when its digests agree.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import load_file as tensors_from_file
from torch import Tensor

from alexnet.runtime import tensor_file
from alexnet.runtime.commit import PARTIAL, whole_folder
from alexnet.runtime.errors import BadInputError, explain_os_error
from alexnet.runtime.tensor_file import Stream

FORMAT = 1
WEIGHTS, VELOCITY, STATE = "weights.safetensors", "velocity.safetensors", "state.json"
KEPT = 2  # the newest checkpoint and the one before it
NAME = "step-{:09d}"


@dataclass(frozen=True)
class Checkpoint:
    """What is needed to go on: weights and velocity by name, in the kind that they were learned in, float32 mostly,
    and the loop's own numbers."""

    weights: dict[str, Tensor]
    velocity: dict[str, Tensor]
    state: dict[str, Any]


def save(folder: Path, step: int, weights: Stream, velocity: Stream, state: Mapping[str, Any]) -> None:
    """Write the checkpoint of `step` as its numbers come, in place of one there; then forget all but it and the one
    before it.

    Raises MachineError when the machine refuses, DivergedError for a value that is not finite. Unless it was an old one
    that could not be removed, no checkpoint is made then and the older ones are untouched; the streams have to be read
    to their ends by the caller.
    """
    path = folder / NAME.format(step)
    with whole_folder(path) as partial:
        digests = {}
        for name, stream in ((WEIGHTS, weights), (VELOCITY, velocity)):
            with (partial / name).open("wb") as file:
                digests[name] = tensor_file.write(file, stream)
        content = json.dumps(state, indent=2).encode()
        (partial / STATE).write_bytes(content)
        digests[STATE] = sha256(content).hexdigest()
        manifest = {"format": FORMAT, "sha256": digests}
        (partial / "manifest.json").write_text(json.dumps(manifest, indent=2))
    # Those of higher steps were damaged when the run went back before them: it has gone another way since.
    known = _folders(folder)
    for old in [each for each in known if each > path] + [each for each in known if each <= path][:-KEPT]:
        try:
            _remove(old)
        except OSError as error:
            raise explain_os_error(error, old) from error


def newest(folder: Path, notice: Callable[[str], None] | None = None, only: str = "") -> Path | None:
    """The checkpoint of the highest step whose digests agree; None where there is none at all.

    Each damaged one is passed over and told to `notice` in a line; `only` looks at one file of each.
    Raises BadInputError when all are damaged.
    """
    damaged: list[str] = []
    for path in reversed(_folders(folder)):
        if fault := _faults(path, only):
            damaged.append(fault)
            continue
        for each in damaged if notice else ():
            notice(f"{each}; going back to the checkpoint before it")  # type: ignore[misc]
        return path
    if damaged:
        raise BadInputError(f"{damaged[0]}; no other checkpoint is whole: train again")
    return None


def load(path: Path) -> Checkpoint:
    """Open a checkpoint that `newest` found whole. Its tensors are read from the disk as they are used, so keep others
    out of the folder. Raises BadInputError when a file cannot be read."""
    weights, velocity = (_understood(path / name, tensors_from_file) for name in (WEIGHTS, VELOCITY))
    return Checkpoint(weights, velocity, json.loads((path / STATE).read_text()))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name. Raises BadInputError when it is missing or damaged."""
    return _understood(path, lambda file: tensors_from_bytes(file.read_bytes()))


def _understood(path: Path, read: Callable[[Path], dict[str, Tensor]]) -> dict[str, Tensor]:
    try:
        return read(path)
    except (OSError, SafetensorError) as error:
        raise BadInputError(f"{path}: cannot be read ({error}); train again") from error


def _remove(path: Path) -> None:
    trash = path.with_name(f".{path.name}.old{PARTIAL}")
    path.rename(trash)  # a half-removed folder must not look like a checkpoint
    shutil.rmtree(trash)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if path.is_dir() and path.name[5:].isdigit())


def _faults(path: Path, only: str = "") -> str:
    """What is wrong with a checkpoint, in words; empty when it is whole."""
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        if manifest["format"] != FORMAT:
            return f"{path}: written by another version (format {manifest['format']})"
        for name in [only] if only else [WEIGHTS, VELOCITY, STATE]:
            with (path / name).open("rb") as file:
                if file_digest(file, sha256).hexdigest() != manifest["sha256"][name]:
                    return f"{path / name}: damaged (its digest differs)"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{path}: damaged ({error})"
    return ""
