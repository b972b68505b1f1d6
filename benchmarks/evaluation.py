"""Ten-view judging of the full network: ours against the stock way, the same weights, interleaved in one process.

    python benchmarks/evaluation.py [--images 64] [--repeats 20]

stock     each image's ten crops in a batch through B1's network (`stock.py`), softmax, mean; crops and mean image ready
views     ours, one view of all images after the other: nothing shared, and each view a batch by itself
ours      ours, as `alexnet evaluate --views 10` does it: what the views share is computed once

The network is the paper's with normalization and dropout as PyTorch's modules have them, so that all three give the
same probabilities; that is checked first. Last line: one JSON object, images a second.
"""

import argparse
import json
from dataclasses import replace
from statistics import median
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from alexnet.data.augment import Images
from alexnet.data.statistics import Statistics
from alexnet.evaluation import views as views_module
from alexnet.evaluation.views import probabilities, views
from alexnet.network.alexnet import AlexNet
from alexnet.network.layers import Dropout, Layer, NormAcrossMaps
from alexnet.network.lineages import PAPER
from alexnet.runtime.devices import this_machine
from stock import ceilings, interleaved, of_these, paper_network

CROPS = 12  # images whose ten crops make one batch of the stock way


def as_in_stock(layer: Layer) -> Layer:
    """What PyTorch's modules have: normalization across both towers, dropout's outputs doubled while training."""
    match layer:
        case NormAcrossMaps():
            return replace(layer, towers=1)
        case Dropout():
            return replace(layer, rescaled=True)
    return layer


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    machine, how = this_machine(), Images()
    network = AlexNet(replace(PAPER, layers=tuple(as_in_stock(layer) for layer in PAPER.layers)))
    stock = paper_network()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)  # probabilities that differ between images
        for theirs, own in zip(stock.parameters(), network.parameters(), strict=True):
            theirs.copy_(own)
    network.to(machine.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    stock.to(machine.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (options.images, 16, 16, 3), dtype=np.uint8)
    pinned = torch.empty(options.images, 256, 256, 3, dtype=torch.uint8, pin_memory=machine.device.type == "cuda")
    squares = pinned.numpy()  # in memory as `predict` has it
    squares[...] = coarse.repeat(16, 1).repeat(16, 2)
    mean = random.uniform(100, 140, (256, 256, 3)).astype(np.float32)
    statistics = Statistics(mean, np.ones(3), np.eye(3))
    whole = (torch.from_numpy(squares).float() - torch.from_numpy(mean)).permute(0, 3, 1, 2).to(machine.device)
    whole = whole.contiguous(memory_format=torch.channels_last)

    def stock_way() -> Tensor:
        with torch.inference_mode(), machine.precision():
            judged = []
            for some in whole.split(CROPS):
                crops = []
                for (top, left), mirrored in views(how, 10):
                    crop = some[:, :, top : top + 224, left : left + 224]
                    crops.append(crop.flip(3) if mirrored else crop)
                logits = stock(torch.stack(crops, 1).flatten(0, 1)).float()
                judged.append(torch.softmax(logits, 1).reshape(len(some), 10, -1).mean(1))
            return torch.cat(judged).cpu()

    def ours() -> Tensor:
        return probabilities(network, squares, how, statistics, machine, 10)

    def view_by_view() -> Tensor:
        with patch.object(views_module, "front", lambda *_: None):
            return ours()

    results = {"stock": stock_way(), "views": view_by_view(), "ours": ours()}
    apart = {name: (result - results["stock"]).abs().max().item() for name, result in results.items()}
    sides = {"stock": stock_way, "views": view_by_view, "ours": ours}
    seconds = interleaved(sides, options.repeats, machine.device)
    paces = {name: options.images / median(each) for name, each in seconds.items()}
    limits = ceilings(machine)
    print(f"ten views of {options.images} images on {machine}; medians of {options.repeats} interleaved")
    print(f"largest difference of a probability to stock: views {apart['views']:.1e}, ours {apart['ours']:.1e}"
          f" (largest probability {results['stock'].max():.2f})")  # fmt: skip
    for name, pace in paces.items():
        slow, quick = options.images / max(seconds[name]), options.images / min(seconds[name])
        print(f"  {name:6} {pace:9.2f} images/s ({slow:.2f} to {quick:.2f})   {pace / paces['stock']:.2f} times stock")
    spread = {name: [options.images / max(each), options.images / min(each)] for name, each in seconds.items()}
    figures = {name: round(value, 4) for name, value in (paces | limits).items()}
    figures |= {"images": options.images, "repeats": options.repeats}
    shown = {"from_stock": apart, "largest_probability": results["stock"].max().item(), "spread": spread}
    print(json.dumps(of_these(machine) | figures | shown))


if __name__ == "__main__":
    main()
