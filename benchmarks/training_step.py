"""A whole training step of the full network, update included: ours against PyTorch's, interleaved in one process.

    python benchmarks/training_step.py [--lineage paper] [--batch 128] [--repeats 20]
        [--products float32] [--without b2]

The stock sides have the paper's layers, with `source-2012` its own, and with a lineage for CIFAR-10 `cifar-18pct`'s;
there is no T then.

Sides: `stock.py` says what B0, B1, B2 and T are. Ours is the step that `alexnet train` takes, without the reading of
pictures. First the results are compared: gradients of the fast path and of PyTorch's operations one by one.
Last line: one JSON object, images a second.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from statistics import median
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional as F

from alexnet.kernels import choice
from alexnet.network.alexnet import AlexNet
from alexnet.network.listing import totals
from alexnet.network.operations import Here
from alexnet.network.shares import together
from alexnet.runtime.devices import Machine, this_machine
from alexnet.runtime.ranks import ALONE
from alexnet.runtime.replay import OnGpu, Replayed
from alexnet.training.recipe import Learning
from alexnet.training.update import Update
from stock import (
    ceilings,
    cifar_network,
    interleaved,
    of_these,
    one_weird_trick,
    paper_network,
    source_network,
    step_of,
)


def our_step(lineage: str, machine: Machine, batch: int) -> tuple[AlexNet, Callable[[Tensor, Tensor], Tensor]]:
    """The network and its step."""
    network = AlexNet(lineage).to(machine.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    update = Update(network, Learning(), machine.products)
    whole, factors = together(network, ALONE, batch, network.lineage)
    moving, numbers = update.moving(lambda layer, bias: 0.01)
    replayed = Replayed(OnGpu()) if machine.device.type == "cuda" else None

    def work(images: Tensor, given: Sequence[Tensor]) -> Tensor:
        labels, seeds, numbers = given
        network.zero_grad(set_to_none=True)
        with machine.precision():
            logits = whole(images, Here(seeds))
        loss = F.cross_entropy(logits.float(), labels)
        loss.backward()
        update.move(moving, numbers, factors.taken())
        return loss.detach()

    def step(images: Tensor, labels: Tensor) -> Tensor:
        given = labels, network.masks(0, 0), numbers
        # What is recorded reads the images where they lie, the same in each step here, as B0, B1 and T do; B2's
        # recording copies them.
        return replayed(images.data_ptr(), partial(work, images), given) if replayed else work(images, given)

    return network, step


def differences(lineage: str, machine: Machine, images: Tensor, labels: Tensor) -> dict[str, float]:
    """How far fast and plain path are from the plain one in float32, before any update: of all gradients, relative."""
    wide = replace(machine, products=torch.float32)
    paths = (wide, False), (machine, True), (machine, False)
    exact, *found = (gradients(lineage, each, fast, images, labels) for each, fast in paths)
    return {name: ((g - exact).norm() / exact.norm()).item() for name, g in zip(("fast", "plain"), found, strict=True)}


def gradients(lineage: str, machine: Machine, fast: bool, images: Tensor, labels: Tensor) -> Tensor:
    """All the first step's gradients in a row."""
    with (
        patch.object(choice, "AVAILABLE", choice.AVAILABLE and fast),
        patch.object(choice, "TRITON", choice.TRITON and fast),
    ):
        network = AlexNet(lineage).to(machine.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        with machine.precision():
            loss = F.cross_entropy(network(images, Here(network.masks(0, 0))).float(), labels)
        loss.backward()
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lineage", default="paper")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--products", choices=["float32"], help="by default this machine's best kind")
    parser.add_argument("--without", nargs="*", default=[], help="sides to leave out")
    options = parser.parse_args()
    machine, batch = this_machine(), options.batch
    if options.products:
        machine = replace(machine, products=torch.float32, reason="as asked")
    limits = ceilings(machine)
    network, ours = our_step(options.lineage, machine, batch)
    side, classes = network.lineage.side, network.lineage.classes
    images = torch.randn(batch, 3, side, side, device=machine.device) * 60
    images = images.contiguous(memory_format=torch.channels_last)
    ordinary, labels = images.contiguous(), torch.randint(0, classes, (batch,), device=machine.device)
    apart = differences(options.lineage, machine, images[:16], labels[:16])
    cifar = classes == 10
    stock = cifar_network if cifar else source_network if options.lineage == "source-2012" else paper_network
    makers: dict[str, Callable[[], Callable[[Tensor, Tensor], object]]] = {
        "ours": lambda: ours,
        "b0": lambda: step_of(stock(), machine, tuned=False),
        "b1": lambda: step_of(stock(), machine, tuned=True),
        "b2": lambda: step_of(stock(), machine, tuned=True, compiled=True),
        "t": lambda: step_of(one_weird_trick(), machine, tuned=True),
    }
    steps = {name: make() for name, make in makers.items() if name not in (*options.without, *("t" * cifar))}
    sides = {
        name: (lambda step=step, name=name: step(ordinary if name == "b0" else images, labels))  # type: ignore[misc]
        for name, step in steps.items()
    }
    seconds = interleaved(sides, options.repeats, machine.device)
    paces = {name: batch / median(values) for name, values in seconds.items()}
    multiply_adds = totals(network.lineage)["multiply_adds"]
    conv1 = next(row.multiply_adds for row in network.lineage.table() if row.layer.learns)
    flops = 2 * (3 * multiply_adds - conv1)  # the images' own gradient is not computed
    share = paces["ours"] * flops / 1e12 / limits["matmul_tflops"]

    print(f"{options.lineage}, batches of {batch}, on {machine}; medians of {options.repeats} interleaved")
    print(f"matrix product {limits['matmul_tflops']:.3f} TFLOP/s, copy {limits['copy_gbps']:.1f} GB/s")
    print(f"gradients, from PyTorch's in float32: fast {apart['fast']:.1e}, plain {apart['plain']:.1e}, relative")
    for name, pace in paces.items():
        slow, quick = batch / max(seconds[name]), batch / min(seconds[name])
        print(f"  {name:5} {pace:9.1f} images/s ({slow:.1f} to {quick:.1f})   ours is {paces['ours'] / pace:.2f} times")
    print(f"  ours reaches {share:.0%} of the matrix product's rate")
    spread = {name: [batch / max(values), batch / min(values)] for name, values in seconds.items()}
    record = of_these(machine) | paces | limits | {"share_of_matmul": share, "batch": batch}
    record |= {
        "lineage": options.lineage,
        "repeats": options.repeats,
        "spread": spread,
        "gradients_from_float32": apart,
    }
    print(json.dumps({name: round(v, 4) if isinstance(v, float) else v for name, v in record.items()}))


if __name__ == "__main__":
    main()
