"""Section 3.2: half of the kernels in each process, which talk only where a layer reads both towers.

A tower is a network of its own: the lineage's table with its share of the kernels, and a `Meeting` before each layer
that reads what other towers computed. Parameters are divided along their first dimension, so a tower's weights are a
slice of the whole network's, and the whole network's are the towers' laid end to end.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from alexnet.network.alexnet import AlexNet, initial_values
from alexnet.network.layers import (
    Convolution,
    FullyConnected,
    Layer,
    LocallyConnected,
    Meeting,
    NormAcrossMaps,
)
from alexnet.network.lineages import Lineage
from alexnet.network.operations import Met
from alexnet.runtime.errors import UsageError
from alexnet.runtime.ranks import Ranks


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


def _share(whole: Lineage, layer: Convolution | FullyConnected, towers: int) -> Layer:
    units = layer.kernels if isinstance(layer, Convolution) else layer.outputs
    if units % towers:
        raise UsageError(
            f"--parallel.towers: {layer.name} of {whole.name} cannot be divided into {towers} equal shares"
        )
    if isinstance(layer, Convolution):
        return replace(layer, kernels=units // towers)
    return replace(layer, outputs=units // towers)


class Towers:
    """How a network lies over the processes: what is here, and where the rest is.

    >>> Towers(lineage("paper"), ALONE).network(seed=0)  # in one process, the whole network
    """

    def __init__(self, whole: Lineage, ranks: Ranks) -> None:
        self.lineage, self.ranks = whole, ranks
        self.here = tower_of(whole, ranks.towers)
        outputs = {row.layer.name: row.output for row in whole.table()}
        self._divided = {row.layer.name for row in self.here.table() if row.output != outputs.get(row.layer.name)}

    def network(self, seed: int) -> AlexNet:
        """What is here of the network that `seed` gives."""
        network = AlexNet(self.here, seed=seed)
        if self.ranks.towers > 1:
            self._connect(network)
            for number, (name, layer) in enumerate(network.learned()):
                share = (self.ranks.tower, self.ranks.towers) if name in self._divided else ()
                layer.set_initial_values(initial_values(seed, number), *share)
        return network

    def _connect(self, tower: AlexNet) -> None:
        assert self.ranks.mesh is not None
        for module in tower.modules():
            if isinstance(module, Met):
                module.meet = Meet(self.ranks.mesh.get_group("tower"))

    def divides(self, name: str) -> bool:
        """Whether the tensor of that name is divided; no lineage of several towers stores a layer elsewhere."""
        return name.rpartition(".")[0] in self._divided

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
        assert self.ranks.mesh is not None
        own = [part if self.divides(name) or not self.ranks.tower else part * 0 for name, part in parts.items()]
        sums = torch.stack(own)
        dist.all_reduce(sums, group=self.ranks.mesh.get_group("tower"))
        return dict(zip(parts, sums, strict=True))

    def handed_out(self, own: Mapping[str, Tensor], whole: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """This process's part of the whole network's tensors, named as its own are; float32, rank 0 has them all.

        Raises KeyError for those of another network.
        """
        parts = {}
        for name, shape in self.shapes(own).items():
            tensor = whole[name] if self.ranks.first else torch.empty(shape)
            self.ranks.spread(tensor)
            parts[name] = tensor.chunk(self.ranks.towers)[self.ranks.tower] if self.divides(name) else tensor
        return parts

    def whole(self, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The whole network's tensors, from every tower's parts: on rank 0; nothing on the others."""
        found = {}
        for name, part in parts.items():
            if self.divides(name):
                if pieces := self.ranks.collected(part.contiguous()):
                    found[name] = torch.cat([piece.cpu() for piece in pieces])
            elif self.ranks.first:
                found[name] = part
        return found


def exchanged(whole: Lineage, towers: int) -> dict[str, tuple[int, int]]:
    """How many numbers each tower is sent for each image, forward and backward, by the meeting."""
    table = tower_of(whole, towers).table()
    found = {}
    for row in table:
        if isinstance(row.layer, Meeting):
            numbers = (towers - 1) * prod(row.input)
            found[row.layer.name] = numbers, numbers if row.layer.added else 0
    return found


class Meet:
    """Lays the towers' activities side by side: one exchange forward, and one of gradients backward."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group = group

    def __call__(self, x: Tensor, added: bool) -> Tensor:
        """float[N, C, ...] of this tower -> float[N, towers * C, ...]."""
        beside: Tensor = _Beside.apply(x, self.group, added)
        return beside


class _Beside(torch.autograd.Function):
    """Each number travels once. (DTensor says the same in a line, but gloo's reduce-scatter sends all to everybody.)"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup, added: bool) -> Tensor:  # type: ignore[override]
        ctx.rest = group, added
        own = x.movedim(1, -1).contiguous()  # maps last, as they lie in memory
        every = own.new_empty(dist.get_world_size(group), *own.shape)
        dist.all_gather(list(every), own, group)
        return every.movedim(0, -2).flatten(-2).movedim(-1, 1)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        group, added = ctx.rest
        towers, here = dist.get_world_size(group), dist.get_rank(group)
        shares = g.movedim(1, -1).unflatten(-1, (towers, -1))
        if not added:  # every tower computed the same gradient, of all
            return shares[..., here, :].movedim(-1, 1), None, None
        sent = shares.movedim(-2, 0).contiguous()
        received = torch.empty_like(sent)
        dist.all_to_all_single(received, sent, group=group)
        return received.sum(0).movedim(-1, 1), None, None
