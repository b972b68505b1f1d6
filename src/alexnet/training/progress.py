"""What a person sees while a network learns: a live line in a terminal, plain lines anywhere else.

Everything goes to standard error; standard output is for results.
"""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.filesize import decimal
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from alexnet.evaluation.errors import in_words
from alexnet.runtime.plain import plain
from alexnet.runtime.run_folder import Event, spent
from alexnet.runtime.streams import standard_error

BLOCKS = "▁▂▃▄▅▆▇█"
PLAIN_SECONDS = 15.0  # between two plain lines


def curve(values: Sequence[float], width: int = 24) -> str:
    """A small curve of the values in block letters, the whole history in at most `width` of them."""
    if not values:
        return ""
    step = max(1, -(-len(values) // width))
    means = [sum(part) / len(part) for part in (values[i : i + step] for i in range(0, len(values), step))]
    low, high = min(means), max(means)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0
    return "".join(BLOCKS[round((mean - low) * scale)] for mean in means)


def clock(seconds: float) -> str:
    """`1:02:03`, or `2:03` below an hour."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def size(count: float) -> str:
    """`252.0 GB`."""
    return decimal(int(count))


class Display:
    """Shows notices, work in progress and a run's events. Use as a context.

    quiet   shows notices only
    shown   without it nothing at all: of several processes one speaks
    """

    def __init__(self, quiet: bool = False, shown: bool = True) -> None:
        self.console = Console(file=standard_error(), highlight=False, quiet=not shown)
        self.live_wanted = self.console.file.isatty() and not quiet and shown
        self.quiet = quiet or not shown
        self.losses: list[float] = []
        self.error: float | None = None
        self.waiting = 0.0  # share of the last line's time that the steps waited for pictures
        self.last_plain = 0.0
        self.working, self.work_began, self.work_before, self.work_done = "", 0.0, 0, 0
        self.total_steps = self.steps_an_epoch = self.classes = 0
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[said]}"),
            console=self.console, transient=True,
        )  # fmt: skip
        self.task: TaskID | None = None
        self.live = Live(self.progress, console=self.console, transient=True, refresh_per_second=8)

    def __enter__(self) -> Self:
        if self.live_wanted:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if self.live_wanted:
            if self.task is not None:
                self.progress.remove_task(self.task)  # or its last picture stays on the screen
            self.live.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(Text(plain(text)), soft_wrap=True)

    def tell(self, text: str) -> None:
        """A line that stays, unless quiet."""
        if not self.quiet:
            self.say(text)

    def work(self, what: str, done: int, total: int) -> None:
        """Progress of anything countable: reading pictures, judging."""
        now = time.monotonic()
        if what != self.working or done < self.work_done:  # other work, or the same begun again
            self.working, self.work_began, self.work_before = what, now, done
        self.work_done = done
        said = f"{done:,} of {total:,}"
        if now > self.work_began + 1 and done > self.work_before:
            pace = (done - self.work_before) / (now - self.work_began)
            said += f", {pace:,.0f}/s, {clock((total - done) / pace)} left"
        if self.live_wanted:
            self._bar(what, done, total, said)
        elif not self.quiet and (done == total or now - self.last_plain > PLAIN_SECONDS):
            self.last_plain = now
            self.say(f"{what}: {said}")

    def begin(self, total_steps: int, steps_an_epoch: int, classes: int) -> None:
        """A run of so many steps begins or goes on."""
        self.total_steps, self.steps_an_epoch, self.classes = total_steps, steps_an_epoch, classes

    def step(self, step: int, images_per_second: float, seconds_left: float) -> None:
        """After each step; only a live display shows it."""
        if self.live_wanted:
            said = f"{images_per_second:,.0f} images/s, {self.waiting:.1%} waiting · {clock(seconds_left)} left"
            if self.losses:
                said = f"loss {self.losses[-1]:.3f} {curve(self.losses)} · {said}"
            if self.error is not None:
                said = f"error {self.error:.1%} · {said}"
            epochs = self.total_steps // self.steps_an_epoch
            epoch = min(step // self.steps_an_epoch + 1, epochs)
            self._bar(f"epoch {epoch}/{epochs}", step, self.total_steps, said)

    def event(self, event: Event) -> None:
        """A line of the journal."""
        if event["event"] == "training":
            self.losses.append(event["loss"])
            self.waiting = event["wait_seconds"] / max(spent(event), 1e-9)
            plain = not self.live_wanted and not self.quiet
            if plain and time.monotonic() - self.last_plain > PLAIN_SECONDS:
                self.last_plain = time.monotonic()
                left = (self.total_steps - event["step"]) * event["seconds_per_step"]
                self.say(
                    f"epoch {event['epoch']} step {event['step']:,} of {self.total_steps:,}: loss {event['loss']:.3f}, "
                    f"{event['images_per_second']:,.0f} images/s, {self.waiting:.1%} waiting for pictures, "
                    f"{clock(left)} left"
                )
        elif event["event"] == "judging":
            self.error = event["top1_error"]
            self.tell(
                f"epoch {event['epoch']}: error {in_words(event['top1_error'], event['top5_error'], self.classes)} "
                f"(held-out images, one view)"
            )
        elif event["event"] == "notice":
            self.say(event["text"])

    def _bar(self, what: str, done: int, total: int, said: str) -> None:
        if self.task is None:
            self.task = self.progress.add_task(what, total=total, said=said)
        self.progress.update(self.task, description=what, completed=done, total=total, said=said)
