"""Every difference of effect between two lineages, in plain words: layers, learning, what the network is shown."""

from dataclasses import dataclass, fields
from itertools import groupby
from typing import Any

from alexnet.network.layers import (
    AveragePool,
    BatchNorm,
    Convolution,
    Dropout,
    FullyConnected,
    Layer,
    LocallyConnected,
    MaxPool,
    NormAcrossMaps,
    NormWithinMap,
    Rectifier,
)
from alexnet.network.lineages import Lineage
from alexnet.network.listing import totals
from alexnet.training.recipe import Change, Learning, Recipe

KINDS: tuple[tuple[type[Layer], str], ...] = (
    (LocallyConnected, "locally connected"),
    (Convolution, "convolution"),
    (FullyConnected, "fully connected"),
    (Rectifier, "rectifier"),
    (NormAcrossMaps, "normalization across maps"),
    (NormWithinMap, "normalization within a map"),
    (BatchNorm, "batch normalization"),
    (MaxPool, "max pooling"),
    (AveragePool, "average pooling"),
    (Dropout, "dropout"),
)

FIELDS = {
    "kernels": "kernels",
    "outputs": "units",
    "size": "window",
    "stride": "stride",
    "pad": "zero padding (before, after)",
    "groups": "separate shares of the maps",
    "weight": "initial weights",
    "bias": "initial biases",
    "n": "maps in the window (n)",
    "k": "constant k",
    "alpha": "alpha, before the plain sum",
    "beta": "exponent beta",
    "towers": "normalization window",
    "images": "images normalized together",
    "kept": "share of the moving averages that a step keeps",
    "epsilon": "added to the variance",
    "keep": "share kept",
    "rescaled": "form",
}

IMAGES = {
    "side": "square cut from each picture",
    "patch": "patch that enters",
    "positions": "positions of training patches, along each axis",
    "reflections": "reflections",
    "patch_shared_by": "images that share one patch",
    "order": "order of the images",
    "shape": "how a picture becomes square",
    "mean": "where the mean image is subtracted",
    "scale": "scale of the pixels",
    "colour": "colour shifts",
    "colour_until": "epoch at which colour shifts end",
}

LEARNING = {
    "epochs": "epochs",
    "batch": "batch",
    "rate": "learning rate",
    "rate_for": "batch that the rate is for",
    "trust": "LARS: share of a layer's weights that a step moves, times the rate",
    "momentum": "momentum",
    "decay": "weight decay",
    "layer_decay": "layers with their own decay",
    "bias_rate": "rate of the biases, in rates of the weights",
    "bias_decay": "decay of the biases",
    "schedule": "schedule",
    "changes": "changes of the rate",
}


@dataclass(frozen=True)
class Difference:
    """What differs, and what each of the two has."""

    what: str
    one: str
    other: str


def compare(one: Recipe, other: Recipe) -> list[Difference]:
    """Every difference between the networks of two recipes, their learning and what they are shown, in that order."""
    nets = one.network.build(), other.network.build()
    found = [Difference(name, *pair) for name, pair in _network(*nets) if pair[0] != pair[1]]
    for title, names, parts in (
        ("learning", LEARNING, (one.learning, other.learning)),
        ("images", IMAGES, (one.images, other.images)),
    ):
        for field, words in names.items():
            values = [_said(field, getattr(part, field), part) for part in parts]
            if values[0] != values[1]:
                found.append(Difference(f"{title}: {words}", *values))
    return found


def _network(one: Lineage, other: Lineage) -> list[tuple[str, tuple[str, str]]]:
    pairs = [("input", (_shape(one.input), _shape(other.input)))]
    blocks = _blocks(one), _blocks(other)
    for name in _in_order(blocks):
        pairs.append((f"{name}: order of layers", (blocks[0].get(name, "absent"), blocks[1].get(name, "absent"))))
    tables = [{row.layer.name: row for row in lineage.table()} for lineage in (one, other)]
    for name in _in_order((tables[0], tables[1])):
        rows = tables[0].get(name), tables[1].get(name)
        if rows[0] and rows[1] and type(rows[0].layer) is type(rows[1].layer):
            if rows[0].layer.learns:
                pairs.append((f"{name}: output", (_shape(rows[0].output), _shape(rows[1].output))))
            for field in fields(rows[0].layer):
                if field.name in FIELDS:
                    said = [_said(field.name, getattr(row.layer, field.name), row.layer) for row in rows if row]
                    pairs.append((f"{name}: {FIELDS[field.name]}", (said[0], said[1])))
    parameters = [totals(lineage)["parameters"] for lineage in (one, other)]
    pairs.append(("parameters", (f"{parameters[0]:,}", f"{parameters[1]:,}")))
    return pairs


def _blocks(lineage: Lineage) -> dict[str, str]:
    """For each layer that learns, it and what follows it up to the next, in words."""
    words: dict[str, list[str]] = {}
    current = "before the first layer"
    for layer in lineage.layers:
        current = layer.name if layer.learns else current
        words.setdefault(current, []).append(next(kind for known, kind in KINDS if isinstance(layer, known)))
    return {name: ", ".join(kind for kind, _ in groupby(kinds)) for name, kinds in words.items()}


def _in_order(both: tuple[dict[str, Any], dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys([*both[0], *both[1]]))


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(str(side) for side in shape)


def _said(field: str, value: Any, part: Any) -> str:
    match field, value:
        case "towers", 1:
            return "crosses all maps"
        case "towers", _:
            return f"stays within one of {value} towers"
        case "rescaled", _:
            return (
                "survivors divided by the share kept while training"
                if value
                else "outputs multiplied by the share kept at test"
            )
        case "changes", _:
            return "; ".join(_change(change) for change in value) or "none planned"
        case "layer_decay", _:
            return ", ".join(f"{layer} {decay:g}" for layer, decay in value) or "none"
        case "schedule", "stall":
            assert isinstance(part, Learning)
            return f"a tenth when the held-out error stalls for {part.patience} epochs, three times at most"
        case "schedule", "fixed":
            return "fixed in advance"
        case "schedule", _:
            assert isinstance(part, Learning)
            warm_up = (
                f"a warm-up of {part.warm_up:g} epochs in {part.planned_epochs}" if part.warm_up else "a short warm-up"
            )
            return f"{warm_up}, then down to 0 as power {part.power:g} of what is left"
        case "rate_for" | "trust", 0:
            return "any" if field == "rate_for" else "none"
        case "colour", "eigenvalue":
            return "0.1 x eigenvalue, on pixels between 0 and 1"
        case "colour", "deviation":
            return "0.1 x square root of the eigenvalue, on 0 to 255, then divided by 1.1"
        case "mean", "centre":
            return "the central part of the mean image, wherever the patch was cut"
        case "mean", _:
            return "the mean image where the patch was cut"
        case "colour_until", 0:
            return "never"
        case _, bool():
            return "yes" if value else "no"
        case _, float():
            return f"{value:g}"
        case _, tuple():
            return ", ".join(str(each) for each in value)
    return str(value)


def _change(change: Change) -> str:
    what = "all layers" if not change.layers else f"{change.layers[0]} to {change.layers[-1]}"
    what = change.layers[0] if len(change.layers) == 1 else what
    whose = (
        "" if change.parameters == "both" else f"'s {change.parameters}" if change.layers else f", {change.parameters}"
    )
    action = "frozen" if change.factor == 0 else f"x {change.factor:g}"
    return f"epoch {change.epoch}: {what}{whose} {action}"
