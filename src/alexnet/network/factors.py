"""What fully connected layers learn, as the factors of their weights' gradients.

What a weight of such a layer learns from an image is a product of two numbers, the activity that enters and the
gradient of the unit. The gradient of all weights is a matrix product of these, its factors: for 128 images far fewer
numbers than there are weights. So it need not pass between processes ("sufficient factor broadcasting": Xie and
others, 2014), nor be written down: the update computes it where it moves the weights
(`kernels/update_by_factors.py`).
"""

from collections.abc import Callable, Collection, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from alexnet.kernels.choice import kind_of_products
from alexnet.kernels.fully_connected import gradients
from alexnet.network.alexnet import AlexNet
from alexnet.network.layers import FullyConnected, Row
from alexnet.network.operations import Learned

CHEAPER = 4  # times fewer numbers are worth that every process computes all images' products

Late = Callable[[], Tensor]  # what is still on its way; whoever calls it waits
Exchange = Callable[[], Callable[[Tensor], Late]]
Factored = Mapping[str, tuple[Tensor, Tensor]]


def by_factors(row: Row, batch: int) -> bool:
    """Whether a layer's factors are far fewer numbers than its weights, in batches of so many images."""
    if not isinstance(row.layer, FullyConnected):
        return False
    return CHEAPER * numbers_of(row, batch) <= 2 * row.weights


def numbers_of(row: Row, batch: int) -> int:
    """How many the two factors of a fully connected layer are."""
    assert isinstance(row.layer, FullyConnected)
    return batch * (row.layer.fan_in(row.input) + row.layer.outputs)


def _at_once() -> Callable[[Tensor], Late]:
    return lambda x: lambda: x


class Factors:
    """The factors that layers of these names leave in training form, in place of gradients, until they are taken.

    `places` says where these layers are stored.

    exchange   called in each forward: what a factor of the images here passes through in the backward
    """

    def __init__(self, network: AlexNet, names: Collection[str], exchange: Exchange = _at_once) -> None:
        self.exchange = exchange
        self._found: dict[str, list[tuple[Late, Late]]] = {}
        places = dict(network.steps)
        self.places: list[str] = []
        for name, layer in network.learned():
            if name in names:
                self.places.append(places[name])
                layer.requires_grad_(False)
                layer.register_forward_hook(partial(self._computed, places[name]))

    def _computed(self, place: str, layer: nn.Module, given: tuple[Tensor, ...], y: Tensor) -> None:
        if not (layer.training and torch.is_grad_enabled()):
            return
        passed, (x,) = self.exchange(), given
        factor = x.detach().flatten(1).to(kind_of_products(x))
        y.requires_grad_()  # where nothing before it learns, too
        y.register_hook(lambda g: self._found.setdefault(place, []).append((passed(factor), passed(g))))

    @torch.no_grad()
    def taken(self) -> Factored:
        """float[N, inputs] and float[N, outputs] of each layer, by where it is stored: what entered and what was passed
        back, of all images since they were last taken. Waits for those that are under way."""
        found, self._found = self._found, {}
        return {place: tuple(map(_end_to_end, zip(*parts, strict=True))) for place, parts in found.items()}  # type: ignore[misc]


def _end_to_end(parts: tuple[Late, ...]) -> Tensor:
    arrived = [part() for part in parts]
    return arrived[0] if len(arrived) == 1 else torch.cat(arrived)


@torch.no_grad()
def form_gradients(network: nn.Module, factors: Factored) -> None:
    """Leave the gradients of these layers' weights and biases that `backward` would have left (section 5)."""
    for place, (x, g) in factors.items():
        layer = network.get_submodule(place)
        assert isinstance(layer, Learned)
        for parameter, gradient in zip((layer.weight, layer.bias), gradients(x, g), strict=True):
            parameter.grad = gradient.to(parameter.dtype)
