"""A run: a folder that is complete in itself.

begins with   recipe.json  environment.json  data.json  classes.json  statistics.safetensors  examples.safetensors
              learned_from.safetensors
gathers       journal.jsonl  checkpoints/  tensorboard/ (where TensorBoard is installed)
ends with     result.json  report.html  predictions/ (of each evaluation)
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from alexnet.runtime.commit import remove_leftovers, unfinished, write_whole
from alexnet.runtime.errors import BadInputError, explain_os_error
from alexnet.runtime.lock import locked

Event = dict[str, Any]
CHECKPOINTS = "checkpoints"
# What a run that never began may leave behind, written or not: its recipe is the last.
BEGINNINGS = {
    ".lock",
    CHECKPOINTS,
    "recipe.json",
    "classes.json",
    "statistics.safetensors",
    "examples.safetensors",
    "learned_from.safetensors",
    "environment.json",
    "data.json",
}
# What others rely on finding in a file, and in an event of the journal.
KEYS = {
    "data.json": {"found", "judged_by", "digest", "training", "held_out"},
    "result.json": {"run", "top1_error", "top5_error", "views", "epochs", "images_per_second"},
    "training": {"step", "loss", "images_per_second", "wait_seconds", "seconds_per_step", "steps"},
    "judging": {"epoch", "step", "top1_error", "top5_error"},
    "notice": {"text"},
}


def spent(event: Event) -> float:
    """The seconds that a line's steps took. (Lines of earlier versions do not say, and one for each resume is told as
    too long.)"""
    return float(event.get("seconds", event["seconds_per_step"] * event["steps"]))


class RunFolder:
    """Where a run's files lie, and how they are read and written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / CHECKPOINTS

    def exists(self) -> bool:
        """Whether a run was begun here."""
        return os.path.exists(self.path / "recipe.json")  # Path.exists raises for a name that is too long

    def create(self) -> None:
        """Make the folder. Raises BadInputError when something else is there, MachineError when it cannot be made."""
        if self.exists():
            raise BadInputError(f"{self.path}: holds a run already; --resume goes on with it, or name another --run")
        try:
            if self.path.is_file():
                raise BadInputError(f"{self.path}: is a file; name another --run")
            found = {entry.name for entry in self.path.iterdir()} if self.path.exists() else set()
            if set(map(unfinished, found)) - BEGINNINGS:
                raise BadInputError(f"{self.path}: is not empty and holds no run; name another --run")
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explain_os_error(error, self.path) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out, and remove what an interrupted write left."""
        with locked(self.path):
            for folder in (self.path, self.checkpoints):
                if folder.exists():
                    remove_leftovers(folder)
            yield

    def write_json(self, name: str, value: Any) -> None:
        """Write one of the run's JSON files, whole or not at all."""
        write_whole(self.path / name, json.dumps(value, indent=2) + "\n")

    def read_text(self, name: str) -> str:
        """One of the run's text files. Raises BadInputError when this is no run, or it lacks the file."""
        file = self.path / name
        if not self.exists():
            raise BadInputError(f"{self.path}: no run here; alexnet train makes one")
        try:
            return file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInputError(f"{file}: cannot be read ({error}); train again") from error

    def read_json(self, name: str) -> dict[str, Any]:
        """One of the run's JSON files. Raises BadInputError when it is missing or damaged."""
        return self._object(self._parsed(name), name, KEYS.get(name, set()))

    def classes(self) -> tuple[str, ...]:
        """The classes' names, by number. Raises BadInputError when they are missing or damaged."""
        names = self._parsed("classes.json")
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise BadInputError(f"{self.path / 'classes.json'}: no list of names; train again")
        return tuple(names)

    def events(self) -> list[Event]:
        """The journal's whole lines. Raises BadInputError naming a damaged one."""
        journal = self.path / "journal.jsonl"
        lines = journal.read_bytes().splitlines(keepends=True) if journal.exists() else []
        found = []
        for number, line in enumerate(lines, 1):
            try:
                found += [json.loads(line)] if line.endswith(b"\n") else []
            except ValueError as error:
                raise BadInputError(f"{journal}: line {number} is damaged ({error}); train again") from error
        for number, event in enumerate(found, 1):
            kind = self._object(event, f"journal.jsonl: line {number}", {"event"})["event"]
            self._object(event, f"journal.jsonl: line {number}", KEYS.get(str(kind), set()))
        return found

    def _parsed(self, name: str) -> Any:
        try:
            return json.loads(self.read_text(name))
        except json.JSONDecodeError as error:
            raise BadInputError(f"{self.path / name}: damaged ({error}); train again") from error

    def _object(self, value: Any, name: str, keys: set[str]) -> dict[str, Any]:
        """`value`, if it is an object that has these keys."""
        if not isinstance(value, dict):
            raise BadInputError(f"{self.path / name} is damaged (no object); train again")
        if lacking := sorted(keys - value.keys()):
            raise BadInputError(f"{self.path / name} is damaged (it lacks {lacking[0]}); train again")
        return value


class Journal:
    """One JSON line for each event of a run.

    Lines written after the last checkpoint are taken back on resuming, so that the journal tells each step once.
    """

    def __init__(self, folder: RunFolder, lines: int) -> None:
        self.path = folder.path / "journal.jsonl"
        self.listeners: list[Callable[[Event], None]] = []
        try:
            kept = self.path.read_bytes().splitlines(keepends=True)[:lines] if self.path.exists() else []
            self.lines = sum(line.endswith(b"\n") for line in kept)
            if self.lines < lines:
                raise BadInputError(
                    f"{self.path}: has {self.lines} of the {lines} lines that the newest checkpoint counts; put it "
                    "back as it was, or remove that checkpoint to go on from the one before it"
                )
            write_whole(self.path, b"".join(kept))
            self._file = self.path.open("ab")
        except OSError as error:
            raise explain_os_error(error, self.path) from error

    def write(self, **event: Any) -> None:
        """Add a line and tell the listeners. Raises MachineError when the machine refuses."""
        try:
            self._file.write(json.dumps(event).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise explain_os_error(error, self.path) from error
        self.lines += 1
        for listener in self.listeners:
            listener(event)

    def flush(self) -> None:
        """Wait until every line is on the disk. Raises MachineError when the machine refuses."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise explain_os_error(error, self.path) from error

    def close(self) -> None:
        """No more lines."""
        with suppress(OSError):  # a line that could not be written, and was told when it could not
            self._file.close()
