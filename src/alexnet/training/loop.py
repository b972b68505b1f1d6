"""Section 5: the loop. Everything it needs to go on is in its checkpoints; everything random is derived."""

import math
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alexnet.data.batches import Batches, Portion
from alexnet.data.squares import Squares
from alexnet.data.statistics import Statistics
from alexnet.evaluation.predictions import predict
from alexnet.network.alexnet import check_weights
from alexnet.network.towers import Towers
from alexnet.runtime import checkpoint
from alexnet.runtime.checkpoint import Checkpoint
from alexnet.runtime.devices import Machine
from alexnet.runtime.errors import AlexNetError, BadInputError, DivergedError, Interrupted
from alexnet.runtime.run_folder import Journal, RunFolder
from alexnet.training.events import events_writer
from alexnet.training.interruption import Interruption
from alexnet.training.progress import Display
from alexnet.training.recipe import Recipe
from alexnet.training.schedule import rate, stretched
from alexnet.training.step import Step

LINES_AN_EPOCH = 20  # of the journal
LOOK_SECONDS = 1.0  # a look at the losses waits for the device, which has other steps to do meanwhile
SAVE_SECONDS = 600.0  # at the latest; every epoch's end saves too
SLOW_SECONDS = 5.0  # a step that takes longer shows its portions
FLAT_STEPS = 200  # this long within FLAT of ln(classes) is worth a word
FLAT = 0.01


@dataclass
class Position:
    """Where the run stands: what a checkpoint remembers beside weights and velocity.

    step          updates done
    loss_sum      since the last training line, with `loss_steps` how many
    flat_steps    for how long the loss has been at ln(classes)
    errors        held-out top-1 errors, one an epoch
    lines         of the journal
    """

    step: int = 0
    loss_sum: float = 0.0
    loss_steps: int = 0
    flat_steps: int = 0
    errors: list[float] = field(default_factory=list)
    lines: int = 0


class Training:
    """A run in progress: one network, its velocity, its data, its folder. Every rank does the same at the same step."""

    def __init__(
        self,
        recipe: Recipe,
        towers: Towers,
        training: Squares,
        held_out: Squares,
        statistics: Statistics,
        machine: Machine,
        folder: RunFolder,
        display: Display,
    ) -> None:
        self.recipe, self.machine, self.folder, self.display = recipe, machine, folder, display
        self.held_out, self.statistics = held_out, statistics
        self.towers, self.ranks = towers, towers.ranks
        images = stretched(recipe.images, recipe.learning)
        self.step = Step(recipe, towers, images, statistics, machine)
        self.network, self.update = self.step.network, self.step.update
        self.batches = Batches(
            training, images, statistics, recipe.seed, recipe.learning.batch,
            rank=self.ranks.share, ranks=self.ranks.shares, part=towers.part, parts=towers.parts,
            portion=recipe.parallel.portion, group=towers.lineage.group, pinned=machine.device.type == "cuda",
        )  # fmt: skip
        self.total_steps = recipe.learning.epochs * len(self.batches)
        self.line_every = max(1, len(self.batches) // LINES_AN_EPOCH)
        self.last = towers.lineage.layers[-1].name
        self.position = Position()
        self.interruption = Interruption()
        self.unseen: list[Tensor] = []  # losses of the last steps, still where they were computed

    def resume(self, path: Path) -> None:
        """Go back to the checkpoint at `path`, which rank 0 reads.

        Raises BadInputError when it is damaged or another network's.
        """
        saved = checkpoint.load(path) if self.ranks.first else Checkpoint({}, {}, {})
        if self.ranks.first:
            for file, own, kept in (
                (checkpoint.WEIGHTS, self.update.weights, saved.weights),
                (checkpoint.VELOCITY, self.update.velocity, saved.velocity),
            ):
                check_weights(self.towers.shapes(own), kept, self.network.lineage.name, str(path / file))
        self.towers.hand_out(self.update.weights, saved.weights)
        self.towers.hand_out(self.update.velocity, saved.velocity)
        self.update.renew_copies()
        try:
            self.position = Position(**self.ranks.from_first(saved.state))
        except TypeError as error:
            raise BadInputError(f"{path}: not a checkpoint of this version ({error}); train again") from error

    def run(self) -> None:
        """Learn to the end, which the journal tells.

        Raises Interrupted after a signal, with the run saved, and DivergedError soon after the first loss that is not
        finite, with the last checkpoint as it was.
        """
        self.journal = self._opened_journal() if self.ranks.first else None
        self.display.begin(self.total_steps, len(self.batches), self.network.lineage.classes)
        self.started, self.started_at = time.monotonic(), self.position.step
        self.line_started, self.waited, self.seen, self.saved_at = self.started, 0.0, 0, self.started
        self.looked_at, self.moved_at, self.line_steps = self.started, self.started, 0
        try:
            with self.interruption.watched():
                while self.position.step < self.total_steps or len(self.position.errors) < self.recipe.learning.epochs:
                    self._epoch()
        except BadInputError:  # not the network's fault: what it learned is worth keeping
            if self.ranks.world == 1 and self.position.step > self.started_at:
                with suppress(AlexNetError):
                    self._save(needed=True)
            raise
        finally:
            if self.journal:
                self.journal.close()

    def _opened_journal(self) -> Journal:
        journal = Journal(self.folder, self.position.lines)
        for event in self.folder.events():
            if event["event"] == "training":
                self.display.losses.append(event["loss"])
        journal.listeners.append(self.display.event)
        if writer := events_writer(self.folder.path, self.position.step):
            journal.listeners.append(writer)
        return journal

    def _tell(self, **event: Any) -> None:
        """A line of the journal, which rank 0 keeps."""
        if self.journal:
            self.journal.write(**event)

    def _epoch(self) -> None:
        steps = len(self.batches)
        epoch = len(self.position.errors)  # judged epochs: an epoch whose steps are done may still need judging
        waiting = time.monotonic()
        for portion in self.batches.epoch(epoch, self.position.step - epoch * steps):
            self.waited += time.monotonic() - waiting
            self._learn(portion)
            now = time.monotonic()
            signal_number, look, save = self.ranks.highest(
                self.interruption.signal_number, now > self.looked_at + LOOK_SECONDS, now > self.saved_at + SAVE_SECONDS
            )
            if look:
                self._look()
            if portion.last and (self.position.step % self.line_every == 0 or self.position.step % steps == 0):
                self._training_line(epoch)
            if signal_number:
                self._end(int(signal_number))
            if save and portion.last:
                self._save()
            waiting = time.monotonic()
        self._judge(epoch)
        self._save(needed=self.position.step == self.total_steps)

    def _end(self, signal_number: int) -> None:
        """Save, and raise Interrupted."""
        self._save(needed=True)
        raise Interrupted(
            f"{self.folder.path}: stopped after step {self.position.step:,} of {self.total_steps:,}, saved; the same "
            f"command with --run {self.folder.path} --resume goes on",
            signal_number,
        )

    def _learn(self, portion: Portion) -> None:
        loss = self.step(portion, self.position.step, self._rate)
        if loss is None:
            if time.monotonic() > self.moved_at + SLOW_SECONDS:
                here = -(-portion.whole // self.ranks.shares)
                self.display.work(f"step {self.position.step + 1:,}", portion.row + len(portion.labels), here)
            return
        self.moved_at = time.monotonic()
        self.unseen.append(loss)
        self.position.step += 1
        self.seen += portion.whole
        self.line_steps += 1
        pace = (time.monotonic() - self.started) / (self.position.step - self.started_at)
        seconds_left = (self.total_steps - self.position.step) * pace
        self.display.step(self.position.step, portion.whole / pace, seconds_left)

    def _look(self) -> None:
        """Add up the losses since the last look. Raises DivergedError at the first that is not finite."""
        self.looked_at = time.monotonic()
        first = self.position.step - len(self.unseen)
        values = self.ranks.total(torch.stack(self.unseen)).tolist() if self.unseen else []
        self.unseen = []
        for step, value in enumerate(values, first + 1):
            if not math.isfinite(value):
                rate_then = self._rate(self.last, False, self.position.step - step + 1)
                raise DivergedError(
                    f"{self.folder.path}: the loss is {value} at step {step:,} (rate {rate_then:g}); "
                    "train again with a smaller --learning.rate"
                )
            self.position.loss_sum += value
            self.position.loss_steps += 1

    def _rate(self, layer: str, bias: bool, done: int = 0) -> float:
        """The next step's, or that of so many steps before."""
        return rate(
            self.recipe.learning,
            layer,
            bias=bias,
            step=self.position.step - done,
            steps_an_epoch=len(self.batches),
            errors=self.position.errors,
        )

    def _training_line(self, epoch: int) -> None:
        self._look()
        position, now = self.position, time.monotonic()
        loss = position.loss_sum / position.loss_steps
        seconds = now - self.line_started
        self._watch_for_flatness(loss)
        steps, position.loss_sum, position.loss_steps = position.loss_steps, 0.0, 0
        self._tell(
            event="training", epoch=epoch + 1, step=position.step, loss=loss, rate=self._rate(self.last, False, 1),
            images_per_second=round(self.seen / seconds, 3), wait_seconds=round(self.waited, 4),
            seconds=round(seconds, 4), seconds_per_step=round(seconds / self.line_steps, 5), steps=steps,
        )  # fmt: skip
        self.line_started, self.waited, self.seen, self.line_steps = now, 0.0, 0, 0

    def _watch_for_flatness(self, loss: float) -> None:
        position, classes = self.position, self.network.lineage.classes
        flat = abs(loss / math.log(classes) - 1) < FLAT
        before = position.flat_steps
        position.flat_steps = before + position.loss_steps if flat else 0
        if before < FLAT_STEPS <= position.flat_steps:
            self._tell(
                event="notice",
                step=position.step,
                text=f"the loss has stayed at ln({classes}) = {math.log(classes):.2f}, chance, for "
                f"{position.flat_steps} steps: the image may not reach the logits. The paper's initial values do this "
                "for long; --recipe default, or --network.initial scaled, does not. Other causes: a rate "
                "too small, or labels that do not go with the pictures.",
            )

    def _judge(self, epoch: int) -> None:
        def progress(done: int, total: int) -> None:
            self.display.work("judging", done, total)
            if signal_number := self.ranks.highest(self.interruption.signal_number)[0]:
                self._end(int(signal_number))

        try:
            judged = predict(
                self.network, self.held_out, self.recipe.images, self.statistics, self.machine, 1, progress, self.ranks
            )
        except DivergedError as error:
            raise DivergedError(f"{self.folder.path}: after step {self.position.step:,}: {error}") from error
        top1, top5 = judged.errors()
        self._tell(event="judging", epoch=epoch + 1, step=self.position.step, top1_error=top1, top5_error=top5, views=1)
        self.position.errors.append(top1)
        self.line_started, self.waited = time.monotonic(), 0.0

    def _save(self, needed: bool = False) -> None:
        """Save; where the machine refuses, keep going with a word unless it is `needed`. All go on together, or rank 0
        could be ended while it writes by the word of one that has nothing to write."""
        self._look()
        self.saved_at = time.monotonic()
        weights, velocity = map(self.towers.stream, (self.update.weights, self.update.velocity))
        refused: AlexNetError | None = None
        try:
            if self.journal:
                self.position.lines = self.journal.lines
                self.journal.flush()
                checkpoint.save(self.folder.checkpoints, self.position.step, weights, velocity, asdict(self.position))
        except AlexNetError as error:
            refused = error
        for _ in chain(weights.pieces, velocity.pieces):
            pass  # the other ranks hand over all that is theirs, written or not
        if isinstance(refused, DivergedError):
            raise DivergedError(
                f"{self.folder.path}: {refused} at step {self.position.step:,}; train with a smaller --learning.rate"
            ) from refused
        if refused and needed:
            raise refused
        if refused:
            self.display.say(f"{refused}; the next save tries again")
        self.ranks.wait()
