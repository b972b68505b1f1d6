"""Section 3.2: half of the kernels in each process, which talk only where a layer reads both towers.

A tower is a network of its own: the lineage's table with its share of the kernels, and a `Meeting` before each layer
that reads what other towers computed. Parameters are divided along their first dimension, so a tower's weights are a
slice of the whole network's, and the whole network's are the towers' laid end to end.

The same author's later hybrid ("One weird trick", 2014) divides the fully connected layers alone, over any number of
processes: each computes the layers before them for its own part of the batch, and a `Gathering` brings all of it to
every one.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from math import prod

import torch
from torch import Tensor

from alexnet.network.alexnet import AlexNet, initial_values
from alexnet.network.layers import (
    Convolution,
    Dropout,
    FullyConnected,
    Gathering,
    Layer,
    LocallyConnected,
    Meeting,
    NormAcrossMaps,
)
from alexnet.network.lineages import Lineage
from alexnet.network.meetings import Gather, Meet
from alexnet.network.operations import DroppedOut, Gathered, Met
from alexnet.runtime.errors import UsageError
from alexnet.runtime.ranks import Ranks
from alexnet.runtime.tensor_file import Stream


def tower_of(whole: Lineage, towers: int) -> Lineage:
    """One of the `towers` equal shares of a network.

    Every tower knows all logits in the end, and so the loss. Classes that cannot be divided evenly are not: every tower
    then computes them all. Raises UsageError for a lineage that cannot be divided.
    """
    if towers == 1:
        return whole
    if whole.towers % towers:
        raise UsageError(
            f"--parallel.towers: {towers}; the lineage {whole.name} has {whole.towers} tower"
            f"{'s' if whole.towers > 1 else ''}"
        )
    return replace(whole, towers=whole.towers // towers, layers=tuple(_divided(whole, towers)))


def _divided(whole: Lineage, towers: int) -> Iterator[Layer]:
    everywhere = True  # whether every tower has all the maps that enter: it sees the whole image
    last = whole.layers[-1]
    for layer in whole.layers:
        whole_here = layer is last and whole.classes % towers != 0
        match layer:
            case LocallyConnected():
                raise UsageError(f"--parallel.towers: {layer.name} of {whole.name} cannot be divided")
            case Convolution(groups=1) | FullyConnected():
                if not everywhere:
                    yield Meeting(f"before_{layer.name}", towers, added=not whole_here)
                yield layer if whole_here else _share(whole, layer, towers)
                everywhere = whole_here
            case Convolution():
                if everywhere or layer.groups % towers:
                    raise UsageError(f"--parallel.towers: {layer.name} of {whole.name} cannot be divided")
                yield _share(whole, replace(layer, groups=layer.groups // towers), towers)
            case NormAcrossMaps():
                if layer.towers % towers:
                    raise UsageError(
                        f"--parallel.towers: {layer.name} of {whole.name} normalizes across the towers, so that one "
                        "process has to compute them all; the paper's own network does not"
                    )
                yield replace(layer, towers=layer.towers // towers)
            case _:
                yield layer
    if not everywhere:
        yield Meeting("logits", towers, added=False)


def hybrid_of(whole: Lineage, parts: int) -> Lineage:
    """What each of `parts` processes has of a network whose fully connected layers alone are divided over them.

    Raises UsageError for a lineage that cannot be divided.
    """
    return replace(whole, layers=tuple(_connected_divided(whole, parts))) if parts > 1 else whole


def _connected_divided(whole: Lineage, parts: int) -> Iterator[Layer]:
    gathered = everywhere = False  # whether all images are here; whether all units of the layer below are
    last = whole.layers[-1]
    for layer in whole.layers:
        if isinstance(layer, FullyConnected | Dropout) and not gathered:
            yield Gathering("gathered", parts)
            gathered = everywhere = True
        if isinstance(layer, FullyConnected):
            # Behind a layer that is divided, the last one need not be: every process then has all of its gradient.
            whole_here = layer is last and whole.classes % parts != 0 and not everywhere
            if not everywhere:
                yield Meeting(f"before_{layer.name}", parts, added=not whole_here)
            yield layer if whole_here else _share(whole, layer, parts, "connected")
            everywhere = whole_here
        else:
            yield layer
    if not everywhere:
        yield Meeting("logits", parts, added=False)


def _share(whole: Lineage, layer: Convolution | FullyConnected, towers: int, option: str = "towers") -> Layer:
    units = layer.kernels if isinstance(layer, Convolution) else layer.outputs
    if units % towers:
        raise UsageError(
            f"--parallel.{option}: {layer.name} of {whole.name} cannot be divided into {towers} equal shares"
        )
    if isinstance(layer, Convolution):
        return replace(layer, kernels=units // towers)
    return replace(layer, outputs=units // towers)


class Towers:
    """How a network lies over the processes: what is here, and where the rest is.

    hybrid   whether the fully connected layers alone are divided

    >>> Towers(lineage("paper"), ALONE).network(seed=0)  # in one process, the whole network
    """

    def __init__(self, whole: Lineage, ranks: Ranks, hybrid: bool = False) -> None:
        self.lineage, self.ranks, self.hybrid = whole, ranks, hybrid and ranks.towers > 1
        self.here = (hybrid_of if self.hybrid else tower_of)(whole, ranks.towers)
        outputs = {row.layer.name: row.output for row in whole.table()}
        self._divided = {
            getattr(row.layer, "stored_as", "") or row.layer.name
            for row in self.here.table()
            if row.output != outputs.get(row.layer.name)
        }

    @property
    def parts(self) -> int:
        """Over how many processes the images of a share are divided, before they are gathered."""
        return self.ranks.towers if self.hybrid else 1

    @property
    def part(self) -> int:
        """Which of these processes this one is."""
        return self.ranks.tower if self.hybrid else 0

    def network(self, seed: int) -> AlexNet:
        """What is here of the network that `seed` gives."""
        network = AlexNet(self.here, seed=seed if self.ranks.towers == 1 else None)
        if self.ranks.towers > 1:
            self._connect(network)
            places = dict(network.steps)
            for number, (name, layer) in enumerate(network.learned()):
                share = (self.ranks.tower, self.ranks.towers) if places[name] in self._divided else ()
                layer.set_initial_values(initial_values(seed, number), *share)
        return network

    def _connect(self, tower: AlexNet) -> None:
        assert self.ranks.mesh is not None
        group = self.ranks.mesh.get_group("tower")
        for name, place in tower.steps:
            module = tower.get_submodule(place)
            if isinstance(module, DroppedOut):
                module.divided = name in self._divided
            elif isinstance(module, Met):
                module.meet = Meet(group)
            elif isinstance(module, Gathered):
                module.gather = Gather(group)

    def divides(self, name: str) -> bool:
        """Whether the tensor of that name is divided."""
        return name.rpartition(".")[0] in self._divided

    def add_up_gradients(self, network: AlexNet) -> None:
        """In a hybrid, of the layers that each process computed for its own images: the sums over all of them."""
        if not self.hybrid:
            return
        for _, place in network.steps:
            module = network.get_submodule(place)
            if isinstance(module, Gathered):
                return
            for parameter in module.parameters():
                assert parameter.grad is not None
                self.ranks.over_towers(parameter.grad)

    def over_images(self, numbers: Tensor) -> Tensor:
        """The sum over all processes that compute the first layers for images of their own, in place."""
        self.ranks.total(numbers)
        return self.ranks.over_towers(numbers) if self.hybrid else numbers

    def shapes(self, own: Mapping[str, Tensor]) -> dict[str, torch.Size]:
        """The shape of each of the whole network's tensors, by name, given this process's."""
        shapes = {}
        for name, part in own.items():
            rows = part.shape[0] * (self.ranks.towers if self.divides(name) else 1)
            shapes[name] = torch.Size((rows, *part.shape[1:]))
        return shapes

    def summed(self, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Sums over whole tensors, by the tensor's name, given those over this process's parts; of one shape."""
        if self.ranks.towers == 1:
            return dict(parts)
        own = [part if self.divides(name) or not self.ranks.tower else part * 0 for name, part in parts.items()]
        return dict(zip(parts, self.ranks.over_towers(torch.stack(own)), strict=True))

    def hand_out(self, own: Mapping[str, Tensor], whole: Mapping[str, Tensor]) -> None:
        """Fill this process's tensors with its part of the whole network's, which rank 0 has (see `shapes`)."""
        for name, shape in self.shapes(own).items():
            kind = own[name].dtype
            tensor = whole[name].to(kind) if self.ranks.first else torch.empty(shape, dtype=kind)
            self.ranks.spread(tensor)
            own[name].copy_(tensor.chunk(self.ranks.towers)[self.ranks.tower] if self.divides(name) else tensor)

    def stream(self, own: Mapping[str, Tensor]) -> Stream:
        """The whole network's tensors, of one kind, from those of every process: their pieces come to rank 0.

        Every rank goes through all pieces. Where rank 0 cannot write them, it reads on: who stops keeps others waiting.
        """
        shapes = dict(sorted(self.shapes(own).items()))
        return Stream(next(iter(own.values())).dtype, shapes, self._pieces(own, shapes))

    def _pieces(self, own: Mapping[str, Tensor], names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        for name in names:
            if self.divides(name):
                for piece in self.ranks.collected(own[name]):
                    yield name, piece
            elif self.ranks.first:
                yield name, own[name]


def exchanged(here: Lineage) -> dict[str, tuple[float, float]]:
    """How many numbers each process is sent for each image, forward and backward, by the layer.

    here   what `tower_of` or `hybrid_of` gives
    """
    found: dict[str, tuple[float, float]] = {}
    for row in here.table():
        if isinstance(row.layer, Meeting):
            numbers = (row.layer.towers - 1) * prod(row.input)
            found[row.layer.name] = numbers, numbers if row.layer.added else 0
        elif isinstance(row.layer, Gathering):
            own = prod(row.input) * (1 - 1 / row.layer.parts)  # a part of the images is here already
            found[row.layer.name] = own, own
    return found
