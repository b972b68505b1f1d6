"""Whether the fast path ends where PyTorch's operations do: `cifar-18pct` with several seeds, each way in turn.

    python benchmarks/same_error.py CIFAR10 [--epochs 8] [--seeds 5] [--only fast]

fast      as `alexnet train` runs here: compiled kernels, the machine's own products
plain     PyTorch's operations one by one, in float32

The schedule is stretched or shortened to the epochs. Last line: one JSON object, errors on the test images.
"""

import argparse
import json
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from unittest.mock import patch

import torch

from alexnet.data.sources import open_dataset
from alexnet.kernels import choice
from alexnet.runtime.devices import this_machine
from alexnet.training import train as train_module
from alexnet.training.progress import Display
from alexnet.training.recipes import RECIPES
from stock import of_these


def trained(data: str, recipe_words: dict[str, str], run: Path, plain: bool) -> dict[str, float]:
    """One run's error and pace."""
    recipe = RECIPES["cifar-18pct"].altered(recipe_words)
    with ExitStack() as changes:
        if plain:
            for kernels in ("AVAILABLE", "TRITON"):
                changes.enter_context(patch.object(choice, kernels, False))
            wide = replace(this_machine(), products=torch.float32, reason="for comparison")
            changes.enter_context(patch.object(train_module, "this_machine", lambda: wide))
        result = train_module.train(recipe, open_dataset(data), run, Display(quiet=True))
    return {"error": result["top1_error"], "images_per_second": result["images_per_second"]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=["fast", "plain"], default=["fast", "plain"])
    options = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {way: [] for way in options.only}
    with tempfile.TemporaryDirectory() as place:
        for seed in range(options.seeds):
            for way, runs in found.items():
                words = {"learning.epochs": str(options.epochs), "seed": str(seed)}
                runs.append(trained(options.data, words, Path(place) / f"{way}-{seed}", way == "plain"))
                print(
                    f"seed {seed}, {way}: {runs[-1]['error']:.2%}, {runs[-1]['images_per_second']:,.0f} images/s",
                    flush=True,
                )
    print(f"cifar-18pct, {options.epochs} epochs, {options.seeds} seeds, on {this_machine()}")
    for way, runs in found.items():
        errors = [run["error"] for run in runs]
        print(f"  {way:6} {mean(errors):.2%}, deviation {stdev(errors) if len(errors) > 1 else 0:.2%}")
    print(json.dumps(of_these(this_machine()) | {"epochs": options.epochs} | found))


if __name__ == "__main__":
    main()
