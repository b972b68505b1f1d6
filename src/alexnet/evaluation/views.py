"""Section 4.1: what judging looks at: the central patch, or five patches and their reflections."""

from collections.abc import Iterator
from dataclasses import replace
from functools import reduce

import torch
from torch import Tensor

from alexnet.data.augment import Images, view
from alexnet.data.decode import Pixels
from alexnet.data.presentation import Presentation
from alexnet.data.statistics import Statistics
from alexnet.evaluation.overlapping import front, logits_of_views
from alexnet.network.alexnet import AlexNet
from alexnet.network.operations import Here
from alexnet.runtime.devices import Machine
from alexnet.runtime.errors import DivergedError, UsageError

View = tuple[tuple[int, int], bool]  # (row, column) of the patch, mirrored
AVERAGED = {  # by how many
    1: "one view",
    2: "the picture and its reflection averaged (its recipe has no other patches)",
    5: "five patches averaged (its recipe has no reflections)",
    10: "ten views averaged",
}


def views(images: Images, count: int) -> list[View]:
    """The one central view, or the ten: four corners and the centre, then the same five mirrored.

    `count` is 1 or 10, or UsageError is raised. Where the recipe learns no reflections, judging shows none, and the
    five are all; where its patches are whole pictures, the five are one.
    With 256 and 224 pixels the corners are (0, 0), (0, 32), (16, 16), (32, 0), (32, 32).
    """
    if count not in (1, 10):
        raise UsageError(f"views: {count}; there is 1 or there are 10")
    far = images.side - images.patch
    if count == 1:
        return [((far // 2, far // 2), False)]
    five = [(0, 0), (0, far), (far // 2, far // 2), (far, 0), (far, far)] if far else [(0, 0)]
    return [(corner, mirrored) for mirrored in ((False, True) if images.reflections else (False,)) for corner in five]


@torch.inference_mode()
def probabilities(
    network: AlexNet,
    squares: Pixels,
    images: Images,
    statistics: Statistics,
    machine: Machine,
    count: int,
    here: Here | None = None,
) -> Tensor:
    """Section 4.1: the softmax of each view, averaged over the views.

    squares   uint8[N, side, side, 3]
    here      in a hybrid, how many images each of its processes has; all are judged
    returns   float32[N, K], on the CPU

    The network is put into its test form (dropout's outputs halved). Raises DivergedError where one is not finite:
    nothing is then said about any image.
    """
    network.eval()
    looked_at = views(images, count)
    with machine.precision():
        logits = _logits(
            network, torch.from_numpy(squares).to(machine.device, non_blocking=True), images, statistics, looked_at,
            machine, here,
        )  # fmt: skip
        total = reduce(torch.add, (torch.softmax(each.float(), 1) for each in logits))
    if not torch.isfinite(total).all():
        raise DivergedError("the network's probabilities: not finite; train again with a smaller --learning.rate")
    return (total / len(looked_at)).cpu()


def _logits(
    network: AlexNet,
    whole: Tensor,
    images: Images,
    statistics: Statistics,
    looked_at: list[View],
    machine: Machine,
    here: Here | None,
) -> Iterator[Tensor]:
    """Of each view, in any order; what views share is computed once, where their mean is that of their own place."""
    corners = [corner for corner, mirrored in looked_at if not mirrored]
    shared = front(network, images.patch, corners) if len(corners) > 1 and images.mean == "at-patch" else None
    if shared is None:
        shown = Presentation(images, statistics, whole.device)
        for (top, left), mirrored in looked_at:
            patches = whole[:, top : top + images.patch, left : left + images.patch]
            yield network(shown(patches, view(len(whole), (top, left), mirrored)).to(machine.sums), here)
        return
    shown = Presentation(replace(images, patch=images.side), statistics, whole.device)
    for mirrored in sorted({mirrored for _, mirrored in looked_at}):
        # The corners of a square lie in the mirrored one as in the square itself.
        seen = shown(whole, view(len(whole), (0, 0), mirrored)).to(machine.sums)
        yield from logits_of_views(network, shared, seen, images.patch, corners, here)
