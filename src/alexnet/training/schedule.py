"""Section 5: how the learning rate changes. Pure functions of the recipe and of what has happened so far."""

from collections.abc import Sequence
from dataclasses import replace

from alexnet.data.augment import Images
from alexnet.training.recipe import Change, Learning

WARM_UP = 20  # steps over which a falling schedule rises to its rate, at least
DROPS = 3  # how often the paper's rate was divided by ten


def tenths(errors: Sequence[float], patience: int) -> int:
    """How often the rate has been divided by ten: whenever the error stopped improving, at most three times.

    errors   held-out top-1 errors, one an epoch
    """
    best, stalled, drops = float("inf"), 0, 0
    for error in errors:
        best, stalled = (error, 0) if error < best else (best, stalled + 1)
        if stalled >= patience and drops < DROPS:
            drops, stalled = drops + 1, 0
    return drops


def has_come(epoch: int, learning: Learning, step: int, steps_an_epoch: int) -> bool:
    """Whether what is planned for `epoch` has come at `step`; a run of another length stretches the plan."""
    return step * learning.planned_epochs >= epoch * learning.epochs * steps_an_epoch


def stretched(images: Images, learning: Learning) -> Images:
    """The same images with the end of colour shifts where a run of this length has it, in whole epochs."""
    if not images.colour_until:
        return images
    return replace(images, colour_until=max(1, round(images.colour_until * learning.epochs / learning.planned_epochs)))


def rate(
    learning: Learning, layer: str, *, bias: bool, step: int, steps_an_epoch: int, errors: Sequence[float]
) -> float:
    """The rate of one layer's weights or biases at `step` (from 0) of the run; 0 freezes them.

    errors   held-out top-1 errors of the epochs so far
    """
    base = learning.rate * (learning.bias_rate if bias else 1)
    if learning.rate_for:
        base *= learning.batch / learning.rate_for
    if learning.schedule == "stall":
        return base * 0.1 ** tenths(errors, learning.patience)
    if learning.schedule == "falling":
        whole = learning.epochs * steps_an_epoch
        rising = min(whole, max(WARM_UP, round(whole * learning.warm_up / learning.planned_epochs)))
        return base * min(1, (step + 1) / rising) * float((1 - step / whole) ** learning.power)
    factor = 1.0
    for change in learning.changes:
        if has_come(change.epoch, learning, step, steps_an_epoch) and _concerns(change, layer, bias):
            factor = change.factor
    return base * factor


def _concerns(change: Change, layer: str, bias: bool) -> bool:
    kind = "biases" if bias else "weights"
    return change.parameters in (kind, "both") and (not change.layers or layer in change.layers)
