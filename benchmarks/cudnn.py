"""What cuDNN makes of each of the paper's convolutions, on a GPU: three directions, in every form they can be given in.

    python benchmarks/cudnn.py [--batches 128 1024]

first, last   all at once as they are, channels first and last
C4, C8        the first layer's three maps filled up with zeros
blocks        the first layer over blocks of 4 x 4 pixels, 48 maps; `blocks of 64` filled up
group         one of two groups by itself
dense         both groups as one convolution, zeros between them

Each with results that are the same each time (`same`), and with any that trials say are fastest (`any`). Microseconds,
medians, the cache cleared in between. Last line: one JSON object.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from triton.testing import do_bench

from alexnet.network.layers import Convolution
from alexnet.network.lineages import PAPER
from alexnet.runtime.devices import this_machine
from stock import of_these

SETTINGS = {"same": (True, False), "any": (False, True)}  # deterministic, by trial


class Form(NamedTuple):
    """A convolution as cuDNN is given it."""

    name: str
    maps: int
    side: int
    kernels: int
    size: int
    stride: int
    pad: int
    groups: int


def forms(layer: Convolution, maps: int, side: int) -> Iterator[Form]:
    """All that are compared; the image is padded beforehand."""
    shape = layer.kernels, layer.size, layer.stride
    if maps == 3:
        padded = side + sum(layer.pad)
        for name, count in (("first", 3), ("last", 3), ("C4", 4), ("C8", 8)):
            yield Form(name, count, padded, *shape, 0, 1)
        for name, count in (("blocks", 48), ("blocks of 64", 64)):
            yield Form(name, count, -(-padded // 4), layer.kernels, 3, 1, 0, 1)
        return
    yield Form("first", maps, side, *shape, layer.pad[0], layer.groups)
    yield Form("last", maps, side, *shape, layer.pad[0], layer.groups)
    if layer.groups > 1:
        yield Form("group", maps // 2, side, layer.kernels // 2, *shape[1:], layer.pad[0], 1)
        yield Form("dense", maps, side, *shape, layer.pad[0], 1)


def directions(form: Form, batch: int, of_x: bool) -> list[float]:
    """Microseconds forward, for the input's gradient and for the weights'."""
    layout = torch.contiguous_format if form.name == "first" else torch.channels_last
    kind = {"device": "cuda", "dtype": torch.bfloat16}
    x = torch.randn(batch, form.maps, form.side, form.side, **kind).contiguous(memory_format=layout)  # type: ignore[arg-type]
    shape = form.kernels, form.maps // form.groups, form.size, form.size
    weight = torch.randn(shape, **kind).contiguous(memory_format=layout)  # type: ignore[arg-type]

    def forward() -> Tensor:
        return F.conv2d(x, weight, None, form.stride, form.pad, groups=form.groups)

    g = torch.randn_like(forward())
    how = [0], [form.stride] * 2, [form.pad] * 2, [1, 1], False, [0, 0], form.groups

    def backward(*wanted: bool) -> Callable[[], object]:
        return lambda: torch.ops.aten.convolution_backward(g, x, weight, *how, [*wanted, False])

    works = [forward, *([backward(True, False)] if of_x else []), backward(False, True)]
    for work in works:
        work()
    found = [1e3 * do_bench(work, warmup=2, rep=8, return_mode="median") for work in works]
    return found if of_x else [found[0], 0.0, found[1]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[128, 1024])
    options = parser.parse_args()
    machine = this_machine()
    print(f"{machine}; microseconds forward, for the input's gradient, for the weights'")
    record: dict[str, list[float]] = {}
    for batch in options.batches:
        for row in PAPER.table():
            if not isinstance(row.layer, Convolution):
                continue
            for form in forms(row.layer, *row.input[:2]):
                for setting, (same, trial) in SETTINGS.items():
                    with torch.backends.cudnn.flags(enabled=True, deterministic=same, benchmark=trial):
                        found = directions(form, batch, of_x=row.input[0] != 3)
                    name = f"{batch} {row.layer.name} {form.name}, {setting}"
                    record[name] = [round(each, 1) for each in found]
                    print(f"  {name:32}" + "".join(f"{each:9.1f}" for each in found))
    print(json.dumps(of_these(machine) | {"microseconds": record}))


if __name__ == "__main__":
    main()
