"""Each operation of the full network by itself, forward and backward: ours against PyTorch's, interleaved.

    python benchmarks/layers.py [--lineage paper] [--batch 128] [--repeats 20] [--only following update]

following      what follows each convolution (rectifier, normalization, pooling), normalization of layer 1 alone, and
               copying the tensor once, in float32 and in the kind of the machine's products; stock is PyTorch's modules
               in float32, which is the fastest kind they have for normalization on a processor
convolutions   ours and the layouts that PyTorch's can be given in, by the rate they reach: channels last and first,
               groups as one call and split by tower
products       the fully connected layers
update         the update rule against PyTorch's fused SGD

Last line: one JSON object, milliseconds.
"""

import argparse
import json
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alexnet.kernels.after_convolution import Following
from alexnet.kernels.convolution import convolution
from alexnet.kernels.fully_connected import fully_connected
from alexnet.kernels.update_rule import move
from alexnet.network.alexnet import AlexNet
from alexnet.network.layers import Convolution, FullyConnected, Layer, MaxPool, NormAcrossMaps, Rectifier
from alexnet.network.operations import following
from alexnet.runtime.devices import Machine, this_machine
from stock import ceilings, interleaved, of_these, recorded

Pass = tuple[Callable[[], object], Callable[[], object]]  # forward alone, forward and backward


def passes(compute: Callable[[Tensor], Tensor], x: Tensor, kernels: tuple[Tensor, ...] = (), of_x: bool = True) -> Pass:
    """`compute` without a graph, and with its gradients for `x` and the kernels."""
    given = x.detach().requires_grad_(of_x)
    for each in kernels:
        each.requires_grad_()
    g = torch.randn_like(compute(given))

    def forward() -> Tensor:
        with torch.no_grad():
            return compute(given)

    def both() -> None:
        torch.autograd.grad(compute(given), (*([given] if of_x else []), *kernels), g)

    return forward, both


def stock_modules(layers: list[Layer]) -> nn.Module:
    """What people write for these layers; normalization crosses the towers, which costs nothing more."""
    found: list[nn.Module] = []
    for layer in layers:
        match layer:
            case Rectifier():
                found.append(nn.ReLU())
            case NormAcrossMaps():
                found.append(nn.LocalResponseNorm(layer.n, layer.alpha * layer.n, layer.beta, layer.k))
            case MaxPool():
                found.append(nn.MaxPool2d(layer.size, layer.stride, ceil_mode=True))
    return nn.Sequential(*found)


def last_first(x: Tensor) -> Tensor:
    """The same, channels last."""
    return x.contiguous(memory_format=torch.channels_last)


def chains(lineage: str) -> list[tuple[str, list[Layer], tuple[int, ...]]]:
    """What follows each convolution and is computed at once: name, layers, the shape that enters."""
    network = AlexNet(lineage)
    rows = network.lineage.table()
    found = []
    for numbers, together in network.stages:
        entering = rows[numbers.start].input
        if together and together != Following(rectified=True) and len(entering) == 3:
            layers = [rows[number].layer for number in numbers]
            found.append((" + ".join(layer.name for layer in layers), layers, entering))
    first = next((chain for chain in found for layer in chain[1] if isinstance(layer, NormAcrossMaps)), None)
    if first:
        norm = next(layer for layer in first[1] if isinstance(layer, NormAcrossMaps))
        found.insert(0, (f"{norm.name} alone", [norm], first[2]))
    return found


def following_sides(lineage: str, batch: int, machine: Machine) -> dict[str, dict[str, Callable[[], object]]]:
    """Sides by chain."""
    sides: dict[str, dict[str, Callable[[], object]]] = {}
    kinds = dict.fromkeys((torch.float32, machine.products))
    for name, layers, shape in chains(lineage):
        wide = torch.randn(batch, *shape, device=machine.device) * 60
        of = sides[name] = {}
        stock = stock_modules(layers)
        of["stock forward"], of["stock both"] = passes(stock, wide)
        together = following(layers)
        assert together
        for kind in kinds:
            x = last_first(wide.to(kind))
            into, short = torch.empty_like(x), str(kind).removeprefix("torch.")
            of[f"{short} forward"], of[f"{short} both"] = passes(together, x)
            of[f"{short} copy"] = lambda into=into, x=x: into.copy_(x)  # type: ignore[misc]
    return sides


def convolution_sides(lineage: str, batch: int, machine: Machine) -> tuple[dict[str, dict[str, Callable[[], object]]],
                                                                           dict[str, float]]:  # fmt: skip
    """Sides by layer, and the operations of a forward pass of each layer, 10^12."""
    sides: dict[str, dict[str, Callable[[], object]]] = {}
    flops = {}
    for row in AlexNet(lineage).lineage.table():
        layer = row.layer
        if not isinstance(layer, Convolution):
            continue
        flops[layer.name] = 2 * batch * row.multiply_adds / 1e12
        maps, side, _ = row.input
        padded = side + sum(layer.pad)
        of_x = maps != 3
        x = torch.randn(batch, maps, padded, padded, device=machine.device).to(machine.products)
        shape = layer.kernels, maps // layer.groups, layer.size, layer.size
        weight = torch.randn(shape, device=machine.device).to(machine.products)
        bias = torch.zeros(layer.kernels, device=machine.device).to(machine.products)

        def grouped(x: Tensor, weight: Tensor, layer: Convolution = layer) -> Tensor:
            return F.conv2d(x, weight, stride=layer.stride, groups=layer.groups)

        def split(x: Tensor, weight: Tensor, layer: Convolution = layer) -> Tensor:
            towers = zip(x.chunk(layer.groups, 1), weight.chunk(layer.groups), strict=True)
            return torch.cat([F.conv2d(last_first(one), kernels, stride=layer.stride) for one, kernels in towers], 1)

        def ours(x: Tensor, weight: Tensor, layer: Convolution = layer, bias: Tensor = bias) -> Tensor:
            return convolution(x, weight, bias, stride=layer.stride, pad=layer.pad, groups=layer.groups)

        of = sides[layer.name] = {}
        ways = {
            "ours": (ours, last_first(x[:, :, :side, :side]), last_first(weight)),
            "channels last": (grouped, last_first(x), last_first(weight)),
            "channels first": (grouped, x, weight),
        }
        if layer.groups > 1:
            ways["split by tower"] = (split, last_first(x), last_first(weight))
        for way, (compute, given, kernels) in ways.items():
            kernels = kernels.detach()  # noqa: PLW2901
            work = passes(lambda x, compute=compute, kernels=kernels: compute(x, kernels), given, (kernels,), of_x)  # type: ignore[misc]
            of[f"{way} forward"], of[f"{way} both"] = work
    return sides, flops


def product_sides(lineage: str, batch: int, machine: Machine) -> tuple[dict[str, dict[str, Callable[[], object]]],
                                                                       dict[str, float]]:  # fmt: skip
    """The same of the fully connected layers."""
    sides: dict[str, dict[str, Callable[[], object]]] = {}
    flops = {}
    for row in AlexNet(lineage).lineage.table():
        if isinstance(row.layer, FullyConnected):
            inputs = row.layer.fan_in(row.input)
            x = torch.randn(batch, inputs, device=machine.device).to(machine.products)
            weight = torch.randn(row.layer.outputs, inputs, device=machine.device).to(machine.products)
            bias = torch.zeros(row.layer.outputs, device=machine.device).to(machine.products)
            of = sides[row.layer.name] = {}
            for way, product in (("ours", fully_connected), ("PyTorch's", F.linear)):

                def compute(x: Tensor, product: Any = product, weight: Tensor = weight, bias: Tensor = bias) -> Tensor:
                    return product(x, weight, bias)  # type: ignore[no-any-return]

                of[f"{way} forward"], of[f"{way} both"] = passes(compute, x, (weight,))
            flops[row.layer.name] = 2 * batch * row.multiply_adds / 1e12
    return sides, flops


def update_sides(lineage: str, machine: Machine) -> dict[str, dict[str, Callable[[], object]]]:
    """The whole network's update."""
    network = AlexNet(lineage).to(machine.device)
    weights = [parameter.detach() for parameter in network.parameters()]
    gradients = [torch.randn_like(weight) * 1e-3 for weight in weights]
    velocities = [torch.zeros_like(weight) for weight in weights]
    half = machine.products == torch.bfloat16
    given = [gradient.to(machine.products) for gradient in gradients]
    copies = [weight.to(machine.products) if half else None for weight in weights]
    parameters = [nn.Parameter(weight.clone()) for weight in weights]
    sgd = torch.optim.SGD(parameters, 0.01, 0.9, weight_decay=0.0005, fused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient

    numbers = torch.tensor([0.9, 0.0005 * 0.01, 0.01], device=machine.device)

    def ours() -> None:
        for each in zip(weights, velocities, given, copies, strict=True):
            move(*each, numbers)

    at_once = recorded(ours, machine.device)
    return {"update": {"stock both": sgd.step, f"{str(machine.products).removeprefix('torch.')} both": at_once}}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lineage", default="paper")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=20)
    parts = ["following", "convolutions", "products", "update"]
    parser.add_argument("--only", nargs="*", choices=parts, default=parts)
    options = parser.parse_args()
    machine = this_machine()
    limits = ceilings(machine)
    record: dict[str, dict[str, float]] = {"limits": limits}
    print(f"{options.lineage}, batches of {options.batch}, on {machine}; medians of {options.repeats}, milliseconds")
    print(f"matrix product {limits['matmul_tflops']:.3f} TFLOP/s, copy {limits['copy_gbps']:.1f} GB/s")
    flops: dict[str, float] = {}
    groups: dict[str, dict[str, Callable[[], object]]] = {}
    if "following" in options.only:
        groups |= following_sides(options.lineage, options.batch, machine)
    if "convolutions" in options.only:
        sides, flops = convolution_sides(options.lineage, options.batch, machine)
        groups |= sides
    if "products" in options.only:
        sides, more = product_sides(options.lineage, options.batch, machine)
        groups, flops = groups | sides, flops | more
    if "update" in options.only:
        groups |= update_sides(options.lineage, machine)
    for name, of in groups.items():
        seconds = interleaved(of, options.repeats, machine.device)
        record[name] = {side: 1e3 * median(values) for side, values in seconds.items()}
        show(name, record[name], flops.get(name))
    rounded = {name: {side: round(v, 3) for side, v in of.items()} for name, of in record.items()}
    print(
        json.dumps(
            of_these(machine)
            | {"batch": options.batch, "lineage": options.lineage, "repeats": options.repeats}
            | rounded
        )
    )


def show(name: str, found: dict[str, float], flops: float | None) -> None:
    """A group's lines for people."""
    print(name)
    for side, both in found.items():
        way, _, what = side.rpartition(" ")
        if what != "both":
            continue
        forward = found.get(f"{way} forward", 0.0)
        said = f"  {way:15} {forward:8.2f} + {both - forward:8.2f}"
        if flops:
            count = 2 if name == "conv1" else 3  # the images' own gradient is not computed
            said += f"   {flops / forward * 1e3:.3f}, in all {count * flops / both * 1e3:.3f} TFLOP/s"
        elif way != "stock":
            said += f"   {found['stock both'] / both:6.1f} times stock"
            if copy := found.get(f"{way} copy"):
                said += f", {both / copy:.2f} copies of {copy:.2f}"
        print(said)


if __name__ == "__main__":
    main()
