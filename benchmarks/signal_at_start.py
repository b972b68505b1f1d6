"""How much of the image reaches the logits before anything is learned.

For each recipe: the standard deviation across images of each layer's output, averaged over units, before any step.
Where it fades, every image looks alike to the last layer and the loss sits at ln(classes).

    python benchmarks/signal_at_start.py DATA [--images 32] [--seeds 3]

A table for people; the last line is one JSON object.
"""

import argparse
import json

import numpy as np
import torch

from alexnet.data.augment import view
from alexnet.data.presentation import Presentation
from alexnet.data.sources import open_dataset
from alexnet.data.squares import Squares
from alexnet.data.statistics import statistics
from alexnet.evaluation.views import views
from alexnet.network.alexnet import AlexNet
from alexnet.runtime.devices import this_machine
from alexnet.training.recipes import recipe_named
from stock import of_these

RECIPES = ("paper", "source-2012", "caffe", "default")
LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")


def spread(recipe_name: str, dataset_images: Squares, seed: int) -> dict[str, float]:
    """Standard deviation across images of each layer's output, averaged over its units."""
    recipe = recipe_named(recipe_name, len(dataset_images))
    images = recipe.images
    squares = Squares(dataset_images.pictures, images.side, images.shape)
    measured = statistics(squares, lambda done, total: None)
    (((top, left), mirrored),) = views(images, 1)
    patches = torch.from_numpy(squares.gather(np.arange(len(squares))))[
        :, top : top + images.patch, left : left + images.patch
    ]
    shown = Presentation(images, measured, torch.device("cpu"))
    network = AlexNet(recipe.network.build(), seed=seed).eval()
    with torch.inference_mode():
        found = network.activations(shown(patches, view(images, len(squares), (top, left), mirrored)), *LAYERS)
    return {name: activity.std(0).mean().item() for name, activity in found.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    machine = this_machine()
    training = open_dataset(options.data).training
    some = training.choose(np.linspace(0, len(training) - 1, options.images).astype(np.int64))
    result = {}
    print(f"{'':14}" + "".join(f"{name:>10}" for name in LAYERS))
    for name in RECIPES:
        trials = [spread(name, Squares(some, 256, "cropped"), seed) for seed in range(options.seeds)]
        result[name] = {layer: float(np.median([trial[layer] for trial in trials])) for layer in LAYERS}
        print(f"{name:14}" + "".join(f"{result[name][layer]:10.2g}" for layer in LAYERS))
    shown = {"data": options.data, "images": options.images, "seeds": options.seeds, "spread": result}
    print(json.dumps(shown | {"environment": of_these(machine)}))


if __name__ == "__main__":
    main()
