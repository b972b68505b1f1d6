"""Section 4.1: what judging looks at: the central patch, or five patches and their reflections."""

import torch
from torch import Tensor

from alexnet.data.augment import Images, view
from alexnet.data.decode import Pixels
from alexnet.data.presentation import Presentation
from alexnet.data.statistics import Statistics
from alexnet.network.alexnet import AlexNet
from alexnet.runtime.devices import Machine
from alexnet.runtime.errors import DivergedError, UsageError

View = tuple[tuple[int, int], bool]  # (row, column) of the patch, mirrored


def views(images: Images, count: int) -> list[View]:
    """The one central view, or the ten: four corners and the centre, then the same five mirrored.

    `count` is 1 or 10. Where the recipe learns no reflections, judging shows none, and the five are all.
    With 256 and 224 pixels the corners are (0, 0), (0, 32), (16, 16), (32, 0), (32, 32).
    """
    if count not in (1, 10):
        raise UsageError(f"views: {count}; there is 1 or there are 10")
    far = images.side - images.patch
    if count == 1:
        return [((far // 2, far // 2), False)]
    five = [(0, 0), (0, far), (far // 2, far // 2), (far, 0), (far, far)]
    return [(corner, mirrored) for mirrored in ((False, True) if images.reflections else (False,)) for corner in five]


@torch.inference_mode()
def probabilities(
    network: AlexNet, squares: Pixels, images: Images, statistics: Statistics, machine: Machine, count: int
) -> Tensor:
    """Section 4.1: the softmax of each view, averaged over the views.

    squares   uint8[N, side, side, 3]
    returns   float32[N, K], on the CPU

    The network is put into its test form (dropout's outputs halved). Raises DivergedError where one is not finite:
    nothing is then said about any image.
    """
    network.eval()
    total = None
    looked_at = views(images, count)
    shown = Presentation(images, statistics, machine.device)
    whole = torch.from_numpy(squares).to(machine.device)
    for (top, left), mirrored in looked_at:
        patches = whole[:, top : top + images.patch, left : left + images.patch]
        with machine.precision():
            logits = network(shown(patches, view(images, len(squares), (top, left), mirrored)))
        shares = torch.softmax(logits.float(), 1)
        total = shares if total is None else total + shares
    assert total is not None
    if not torch.isfinite(total).all():
        raise DivergedError("the network's probabilities: not finite; train again with a smaller --learning.rate")
    return (total / len(looked_at)).cpu()
