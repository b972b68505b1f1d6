"""Ten overlapping views computed with what they share done once, exactly (section 4.1).

The five patches of a 256 x 256 image overlap in most of their pixels, and their corners lie 16 apart: whole strides of
the first convolution and pooling. So the layers up to the first pooling are computed once over the whole image, and
each view cuts its maps from there. Only the last row and column of a view's maps see zeros beyond its own edge; those
are computed from strips of the view.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from alexnet.network.alexnet import AlexNet
from alexnet.network.layers import Convolution, Layer, MaxPool, NormAcrossMaps, Rectifier
from alexnet.network.operations import Here


@dataclass(frozen=True)
class Front:
    """The layers up to the first pooling, as a window that moves over the image.

    stages   how many of the network's stages they are
    stride   pixels between two windows
    shared   how many outputs along an axis see only a view's own pixels
    outputs  how many there are: the others see zeros beyond its edge too
    """

    stages: int
    stride: int
    shared: int
    outputs: int


def front(network: AlexNet, patch: int, corners: list[tuple[int, int]]) -> Front | None:
    """What these views can share, or None: a convolution padded only behind, a pooling, and corners on its strides."""
    first = network.lineage.layers[0]
    if not isinstance(first, Convolution) or first.pad[0] or len(network.stages) < 3:
        return None
    second: list[Layer] = [network.lineage.layers[number] for number in network.stages[1][0]]
    pooling = next((layer for layer in second if isinstance(layer, MaxPool)), None)
    if pooling is None or not all(isinstance(layer, Rectifier | NormAcrossMaps | MaxPool) for layer in second):
        return None
    stride, window = first.stride * pooling.stride, first.size + first.stride * (pooling.size - 1)
    if patch < window or any(place % stride for corner in corners for place in corner):
        return None
    outputs = pooling.output(first.output((3, patch, patch)))[1]
    return Front(2, stride, (patch - window) // stride + 1, outputs)


def logits_of_views(
    network: AlexNet, what: Front, whole: Tensor, patch: int, corners: list[tuple[int, int]], here: Here | None = None
) -> list[Tensor]:
    """The logits of the views whose patches begin at these corners.

    whole     float32[N, 3, side, side]   the images, mean subtracted
    returns   float[N, K] for each corner
    """
    n, step = what.shared, what.stride
    views = [whole[:, :, top : top + patch, left : left + patch] for top, left in corners]
    maps = network.stage(0, what.stages, whole)
    cut = [(top // step, left // step) for top, left in corners]
    inner = [maps[:, :, row : row + n, column : column + n] for row, column in cut]
    if n < what.outputs:
        # The strips of all views together, from where the windows begin that see beyond the edge.
        below = network.stage(0, what.stages, torch.cat([view[:, :, n * step :] for view in views]))
        right = network.stage(0, what.stages, torch.cat([view[:, :, :, n * step :] for view in views]))
        strips = zip(inner, below.chunk(len(views)), right.chunk(len(views)), strict=True)
        inner = [torch.cat([torch.cat([own, beside[:, :, :n]], 3), under], 2) for own, under, beside in strips]
    if here and len(here.counts) > 1:  # the processes of a hybrid lay their images together, view by view
        return [network.stage(what.stages, None, each, here) for each in inner]
    # All views in one batch: a weight is rounded to bf16, laid out and called into the cache once, not for each view.
    return list(network.stage(what.stages, None, torch.cat(inner), here).chunk(len(inner)))
