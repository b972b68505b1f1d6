"""TensorBoard's events, where TensorBoard is installed."""

from collections.abc import Callable
from pathlib import Path

from alexnet.runtime.run_folder import Event

SHOWN = ("loss", "rate", "images_per_second", "top1_error", "top5_error")


def events_writer(folder: Path, step: int) -> Callable[[Event], None] | None:
    """A journal's listener that writes them into the run's folder, from `step` on; None without TensorBoard."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)  # type: ignore[no-untyped-call]

    def write(event: Event) -> None:
        for name in SHOWN:
            if name in event:
                writer.add_scalar(f"{event['event']}/{name}", event[name], event["step"])  # type: ignore[no-untyped-call]
        writer.flush()  # type: ignore[no-untyped-call]

    return write
