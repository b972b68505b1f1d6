"""`alexnet evaluate RUN... DATA [--views 1|10]`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from alexnet.command_line.saying import complain
from alexnet.command_line.words import DATA, RUN, Options, Result, parser
from alexnet.runtime.errors import UsageError
from alexnet.runtime.plain import plain

if TYPE_CHECKING:
    from alexnet.evaluation.predictions import Predictions
    from alexnet.runtime.ranks import Ranks

# Section 6, Table 1 and the sentence after it.
PAPER_ERRORS = {1: "39.0 % top-1, 18.3 % top-5, one view", 10: "37.5 % top-1, 17.0 % top-5, ten views averaged"}


def run(words: Sequence[str]) -> Result:
    """Judge runs on held-out pictures."""
    known = parser("evaluate", "Judge runs on held-out pictures; several make an ensemble.")
    known.add_argument("runs", nargs="+", metavar="RUN", type=Path, help=RUN)
    known.add_argument("data", metavar="DATA", help=f"what to be judged by: {DATA}")
    known.add_argument("--views", type=int, choices=(1, 10), default=1, help="the centre, or the paper's ten")
    known.add_argument("--weights", metavar="W,W", help="the ensemble's weights, one a run; equal by default")
    options = known.read(words)
    weights = _weights(options.weights, len(options.runs))

    from alexnet.runtime.pulse import at_work

    with at_work(lambda error: complain("evaluate", error)) as ranks:
        return _evaluate(options, weights, ranks)


def _evaluate(options: Options, weights: list[float] | None, ranks: "Ranks") -> Result:
    from alexnet.data.sources import open_dataset
    from alexnet.evaluation.predictions import ensemble
    from alexnet.evaluation.views import AVERAGED
    from alexnet.judge import in_one_order, judge, unlearned
    from alexnet.training.progress import Display

    orders = in_one_order(options.runs)
    dataset = unlearned(ranks.in_turn(lambda: open_dataset(options.data)), options.runs)
    with Display(shown=ranks.first) as display:
        for notice in dataset.notices:
            display.say(notice)
        judged = [
            judge(run, dataset, options.views, display.work, ranks, display.say).in_order(order)
            for run, order in zip(options.runs, orders, strict=True)
        ]
    if not ranks.first:
        return {}
    together = ensemble(judged, weights)
    for run, one in zip(options.runs, judged, strict=True):
        print(f"{plain(str(run))}: error {_said(one)}, {AVERAGED[one.views]}")
    if len(judged) > 1:
        print(f"average of {len(judged)} runs: error {_said(together)}")
    print(f"images judged: {len(together.labels):,} ({dataset.judged_by}), each counted once")
    print(f"as the paper reports: {PAPER_ERRORS[options.views]} (ILSVRC-2010 test, Section 6)")
    return {
        "images": len(together.labels),
        **_errors(together),
        "views": options.views,
        "runs": [
            {"run": str(run), **_errors(one), "views": one.views} for run, one in zip(options.runs, judged, strict=True)
        ],
    }


def _errors(judged: "Predictions") -> Result:
    top1, top5 = judged.errors()
    return {"top1_error": top1, "top5_error": top5}


def _said(judged: "Predictions") -> str:
    from alexnet.evaluation.errors import in_words

    return in_words(*judged.errors(), judged.probabilities.shape[1])


def _weights(text: str | None, runs: int) -> list[float] | None:
    if text is None:
        return None
    try:
        weights = [float(word) for word in text.split(",")]
    except ValueError:
        raise UsageError(f"--weights: {text!r} are not numbers with commas between them") from None
    if len(weights) != runs or not all(weight >= 0 for weight in weights) or not 0 < sum(weights) < float("inf"):
        raise UsageError(f"--weights: {text!r}; give {runs} numbers from 0, one a run, not all 0")
    return weights
