"""One self-contained HTML page about a run: it fetches nothing and runs nothing; mail it, show it in a lecture."""

import copy
from datetime import timedelta
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import torch

from alexnet.classifier import Classifier
from alexnet.evaluation.views import AVERAGED, probabilities
from alexnet.judge import kept_predictions
from alexnet.network.alexnet import initial_values
from alexnet.network.listing import totals
from alexnet.report.figures import curves, kernels, png
from alexnet.runtime.commit import write_whole
from alexnet.runtime.run_folder import Event, RunFolder, spent
from alexnet.training.train import read_examples

SHOWN = 5  # classes a panel


def write_report(run: Path) -> Path:
    """Write `report.html` into the run and give its path.

    Raises BadInputError when the run is incomplete or damaged, MachineError without matplotlib.
    """
    folder = RunFolder(run)
    classifier = Classifier.load(run)
    page = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    ).get_template("page.html")
    events = folder.events()
    lineage = classifier.network.lineage
    text = page.render(
        name=run.resolve().name,
        lineage=lineage,
        data=folder.read_json("data.json"),
        classes=classifier.classes,
        numbers=_numbers(events, classifier),
        judgings=_judgings(classifier, folder, events),
        unfinished=_unfinished(classifier, folder, events),
        curves=curves(events, len(classifier.classes)),
        towers=_towers(classifier),
        moved=_moved(classifier),
        panels=_panels(folder, classifier),
        layers=lineage.table(),
        recipe=_flat(folder.read_json("recipe.json")),
        environment=_flat(folder.read_json("environment.json")),
    )
    path = run / "report.html"
    write_whole(path, text.encode("utf-8", "backslashreplace"))  # a folder's name may be no UTF-8
    return path


def _numbers(events: list[Event], classifier: Classifier) -> list[tuple[str, str]]:
    """The headline: value and what it is."""
    training = [event for event in events if event["event"] == "training"]
    seconds = sum(map(spent, training))
    waited = sum(event["wait_seconds"] for event in training)
    return [
        (f"{totals(classifier.network.lineage)['parameters']:,}", "parameters"),
        (f"{training[-1]['step']:,}" if training else "0", "steps of learning"),
        (str(timedelta(seconds=round(seconds))), "spent on them"),
        (
            f"{np.median([event['images_per_second'] for event in training]):,.0f}" if training else "0",
            "images a second",
        ),
        (f"{waited / seconds:.1%}" if seconds else "0", "of it waiting for pictures"),
    ]


def _judgings(classifier: Classifier, folder: RunFolder, events: list[Event]) -> list[tuple[str, int, float, float]]:
    """How it was judged: by what, images, top-1 and top-5 error. What was judged while it learned is of other weights
    than the page shows where it was stopped later."""
    data = folder.read_json("data.json")
    found = {
        predictions.views: (AVERAGED[predictions.views], len(predictions.labels), *predictions.errors())
        for predictions in kept_predictions(folder.path, classifier.checkpoint, data["digest"])
    }
    last = next((event for event in reversed(events) if event["event"] == "judging"), None)
    if last and 1 not in found:
        later = "" if last["step"] == _steps(classifier) else f", after epoch {last['epoch']}"
        found[1] = (AVERAGED[1] + later, data["held_out"], last["top1_error"], last["top5_error"])
    return [found[views] for views in sorted(found)]


def _steps(classifier: Classifier) -> int:
    return int(classifier.checkpoint.rpartition("-")[2])


def _unfinished(classifier: Classifier, folder: RunFolder, events: list[Event]) -> str:
    """A word about a run that is not at its end."""
    if (folder.path / "result.json").exists():
        return ""
    judged, epochs = sum(event["event"] == "judging" for event in events), classifier.recipe.learning.epochs
    return f"Not finished: {judged} of {epochs} epochs, {_steps(classifier):,} steps."


def _towers(classifier: Classifier) -> list[tuple[str, str]]:
    """Figure 3: a caption and a picture for each tower."""
    _, first = next(classifier.network.learned())
    weights = first.weight.detach().float().cpu().numpy()
    pictures = kernels(weights, classifier.network.lineage.towers)
    titles = ["tower a", "tower b"] if len(pictures) > 1 else ["the only tower"]
    return [(title, png(picture)) for title, picture in zip(titles, pictures, strict=True)]


def _moved(classifier: Classifier) -> float:
    """How far the first layer's kernels have come from their random start, as a share of the start's length."""
    _, learned = next(classifier.network.learned())
    start = copy.deepcopy(learned).cpu()
    start.set_initial_values(initial_values(classifier.recipe.seed, 0))
    return float((learned.weight.detach().cpu() - start.weight.detach()).norm() / start.weight.detach().norm())


def _panels(folder: RunFolder, classifier: Classifier) -> list[dict[str, Any]]:
    """Figure 4, left: pictures of the held-out split with their five most probable classes."""
    squares, labels = read_examples(folder)
    shares = probabilities(
        classifier.network, squares, classifier.recipe.images, classifier.statistics, classifier.machine, 1
    )
    best = torch.topk(shares, min(SHOWN, shares.shape[1]))
    return [
        {
            "image": png(square),
            "label": classifier.classes[label],
            "bars": [
                {"class": classifier.classes[i], "probability": p, "right": i == label}
                for p, i in zip(values.tolist(), indices.tolist(), strict=True)
            ],
        }
        for square, label, values, indices in zip(squares, labels.tolist(), *best, strict=True)
    ]


def _flat(values: dict[str, Any], above: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{above}{name}.")
        elif value not in ([], None):
            rows.append((above + name, str(value)))
    return rows
