"""The paper's figures from a run: Figure 3's kernels, and the curves. The only door to matplotlib."""

import io
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet.evaluation.errors import AMONG
from alexnet.runtime.errors import MachineError
from alexnet.runtime.run_folder import Event

PER_ROW = 16  # kernels, as in Figure 3
MARKED = 20  # points of a curve that are marked, fewer than
INK, QUIET, LINE = "#1f2430", "#6b7280", "#a3432f"


def kernels(weights: NDArray[np.float32], towers: int) -> list[NDArray[np.uint8]]:
    """Figure 3: the first layer's kernels as pictures, one for each tower.

    weights   float32[K, 3, size, size]
    returns   uint8[H, W, 3] each: sixteen kernels a row, black gaps of one pixel

    One shift by the minimum and one division by the maximum over all kernels of all towers, as the 2012 program drew
    them: kernels that learned little stay grey.
    """
    low, high = float(weights.min()), float(weights.max())
    shown = ((weights - low) / max(high - low, 1e-12) * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)
    return [_grid(tower) for tower in np.split(shown, towers)]


def png(pixels: NDArray[np.uint8]) -> str:
    """A picture, uint8[H, W, 3], as a data URI."""
    buffer = io.BytesIO()
    _pyplot().imsave(buffer, pixels, format="png")
    return "data:image/png;base64," + b64encode(buffer.getvalue()).decode()


def curves(events: Sequence[Event], classes: int) -> str:
    """The training loss by step and the held-out error by epoch, as one SVG element. Few points are marked: a single
    one could not be seen. Top-5 is left out where it says nothing."""
    training = [event for event in events if event["event"] == "training"]
    judging = [event for event in events if event["event"] == "judging"]
    plt = _pyplot()
    style = {
        "font.family": "sans-serif",
        "font.size": 10,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": QUIET,
        "xtick.color": QUIET,
        "ytick.color": QUIET,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.hashsalt": "alexnet",  # the same run gives the same page, byte for byte
        "svg.fonttype": "none",
    }
    with plt.rc_context(style):
        figure, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3.1), layout="constrained")
        steps = [event["step"] for event in training]
        left.plot(steps, [event["loss"] for event in training], color=LINE, lw=1.6, ms=4, marker=_marker(steps))
        left.set(xlabel="step", ylabel="training loss", ylim=(0, None))
        epochs = [event["epoch"] for event in judging]
        shown = (("top1_error", "top-1", LINE), ("top5_error", "top-5", QUIET))
        for name, label, colour in shown if classes > AMONG else shown[:1]:
            values = [event[name] * 100 for event in judging]
            right.plot(epochs, values, color=colour, lw=1.6, marker=_marker(epochs), ms=4, label=label)
        right.set(xlabel="epoch", ylabel="held-out error, %", ylim=(0, None))
        right.xaxis.get_major_locator().set_params(integer=True)
        right.legend(frameon=False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
        plt.close(figure)
    drawing = buffer.getvalue()
    named = '<svg role="img" aria-label="training loss by step, held-out error by epoch" '
    return named + drawing[drawing.index("<svg ") + len("<svg ") :]


def _marker(places: Sequence[int]) -> str | None:
    return "o" if len(places) < MARKED else None


def _grid(kernels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    count, size = len(kernels), kernels.shape[1]
    rows = -(-count // PER_ROW)
    columns = min(count, PER_ROW)
    picture = np.zeros((rows * (size + 1) + 1, columns * (size + 1) + 1, 3), np.uint8)
    for number, kernel in enumerate(kernels):
        top, left = (place * (size + 1) + 1 for place in divmod(number, PER_ROW))
        picture[top : top + size, left : left + size] = kernel
    return picture


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise MachineError("matplotlib: draws the report's figures; pip install 'alexnet[figures]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot
