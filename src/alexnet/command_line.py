"""The command line: one verb per stage, each parses, calls one function and shows. The only door to argparse.

Nothing heavy is imported before a verb needs it: `alexnet --help` answers without torch.
"""

import argparse
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from alexnet.runtime.errors import AlexNetError, BadInputError, Interrupted, MachineError, UsageError, explain_os_error
from alexnet.runtime.suggestions import did_you_mean

if TYPE_CHECKING:
    from alexnet.evaluation.predictions import Predictions

Result = dict[str, Any]

HELP = """alexnet VERB ...: the 2012 ImageNet system, as printed and as it was really run

  inspect LINEAGE             its layers, parameters and multiply-adds; --against OTHER: every difference
  train DATA                  a run: learn from pictures, in a folder that can be resumed
  evaluate RUN... DATA        top-1 and top-5 error on held-out pictures; several runs make an ensemble
  classify RUN IMAGE...       the five most probable classes of each picture
  report RUN                  one HTML page: curves, kernels, predictions, numbers

DATA is `digits` (built in), a folder of class folders (with or without train/ and val/), Parquet in the Hugging Face
layout, or CIFAR-10's own files. `alexnet VERB --help` lists a verb's options; --json makes the last line JSON.
"""


PAPER_ERRORS = {1: "39.0 % top-1, 18.3 % top-5, one view", 10: "37.5 % top-1, 17.0 % top-5, ten views averaged"}


class _Parser(argparse.ArgumentParser):
    """argparse, with errors as ours and the nearest name for a wrong one."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see alexnet {self.prog.split()[-1]} --help")

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse all of `words`. Raises UsageError."""
        options, unknown = self.parse_known_args(words)
        if unknown:
            known = [name for action in self._actions for name in action.option_strings]
            raise UsageError(f"{unknown[0]}: no such option; {did_you_mean(unknown[0].split('=')[0], known)}")
        return options


def _parser(verb: str, description: str) -> _Parser:
    parser = _Parser(prog=f"alexnet {verb}", description=description, allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="make the last line of standard output one JSON object")
    return parser


def inspect(words: Sequence[str]) -> Result:
    """`alexnet inspect LINEAGE [--against OTHER]`."""
    from alexnet.network.lineages import LINEAGES, lineage
    from alexnet.network.listing import listing, summary
    from alexnet.training.comparison import compare
    from alexnet.training.recipes import RECIPES

    parser = _parser("inspect", "A lineage's layers, or every difference between two.")
    parser.add_argument("lineage", nargs="?", help="a lineage; none lists them")
    parser.add_argument("--against", metavar="OTHER", help="every difference from another lineage, in words")
    options = parser.read(words)
    if options.lineage is None:
        for known in LINEAGES.values():
            print(f"{known.name:24} {sum(row.parameters for row in known.table()):>11,}  {known.summary}")
        return {"lineages": list(LINEAGES)}
    one = lineage(options.lineage)
    if options.against:
        other = lineage(options.against)
        found = compare(RECIPES[one.name], RECIPES[other.name])
        for each in found:
            print(f"{each.what}\n    {one.name}: {each.one}\n    {other.name}: {each.other}")
        print(f"{len(found)} differences")
        return {"differences": [vars(each) for each in found], "lineage": one.name, "against": other.name}
    print(listing(one))
    return summary(one)


def train(words: Sequence[str]) -> Result:
    """`alexnet train DATA [--recipe NAME] [--run DIR] [--resume] [--learning.epochs 5 ...]`."""
    from alexnet.training.recipe import settable
    from alexnet.training.recipes import NAMES, recipe_named

    parser = _parser("train", "Learn from pictures. Ctrl-C saves; --resume goes on, to the same bits.")
    parser.add_argument("data", help="what to learn from: digits, a folder of class folders, Parquet, CIFAR-10")
    parser.add_argument("--recipe", default="default", metavar="NAME", help=f"one of {', '.join(NAMES)}")
    parser.add_argument("--run", type=Path, metavar="DIR", help="the run's folder; a new one in runs/ by default")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --run")
    parser.add_argument("--quiet", action="store_true", help="notices only, no progress")
    group = parser.add_argument_group("numbers of the recipe")
    for name, (_, meaning) in settable().items():
        group.add_argument(f"--{name}", metavar="X", help=meaning.replace("%", "%%"))
    options = parser.read(words)
    settings = {name: value for name in settable() if (value := getattr(options, name)) is not None}
    # Wrong names are found before any picture is read; how many pictures there are matters to the default recipe only.
    recipe_named(options.recipe, images=1).altered(settings).check()
    if options.resume and not options.run:
        raise UsageError("--resume: which run? name it with --run")

    from alexnet.data.sources import open_dataset
    from alexnet.training.progress import Display
    from alexnet.training.train import train

    dataset = open_dataset(options.data)
    recipe = recipe_named(options.recipe, len(dataset.training), dataset.reflects).altered(settings)
    run = options.run or _new_run(recipe.name, options.data)
    with Display(options.quiet) as display:
        result = train(recipe, dataset, run, display, resume=options.resume)
        _write_report(run, display.tell)
    print(
        f"{run}: error {result['top1_error']:.2%} top-1, {result['top5_error']:.2%} top-5 on held-out pictures (one "
        f"view), {result['images_per_second']:,.0f} images/s"
    )
    return result


def evaluate(words: Sequence[str]) -> Result:
    """`alexnet evaluate RUN... DATA [--views 1|10]`."""
    parser = _parser("evaluate", "Judge runs on held-out pictures; several make an ensemble.")
    parser.add_argument("runs", nargs="+", metavar="RUN", type=Path)
    parser.add_argument("data", metavar="DATA")
    parser.add_argument("--views", type=int, choices=(1, 10), default=1, help="the centre, or the paper's ten")
    parser.add_argument("--weights", metavar="W,W", help="the ensemble's weights, one a run; equal by default")
    options = parser.read(words)
    weights = _weights(options.weights, len(options.runs))

    from alexnet.data.sources import open_dataset
    from alexnet.evaluation.predictions import ensemble
    from alexnet.judge import check_same_classes, judge
    from alexnet.training.progress import Display

    dataset = open_dataset(options.data)
    check_same_classes(options.runs)
    with Display() as display:
        judged = [judge(run, dataset, options.views, display.work) for run in options.runs]
    for run, predictions in zip(options.runs, judged, strict=True):
        print(_errors_line(str(run), predictions))
    together = ensemble(judged, weights)
    top1, top5 = together.errors()
    if len(judged) > 1:
        print(_errors_line(f"average of {len(judged)} runs", together))
    print(f"{len(together.labels):,} images ({dataset.judged_by}), each counted once")
    print(f"as the paper reports: {PAPER_ERRORS[options.views]} (ILSVRC-2010 test, Section 6)")
    return {
        "images": len(together.labels),
        "top1_error": top1,
        "top5_error": top5,
        "views": options.views,
        "runs": [
            {"run": str(run), "top1_error": each.errors()[0], "top5_error": each.errors()[1]}
            for run, each in zip(options.runs, judged, strict=True)
        ],
    }


def classify(words: Sequence[str]) -> Result:
    """`alexnet classify RUN IMAGE...`."""
    parser = _parser("classify", "The five most probable classes of each picture.")
    parser.add_argument("run", type=Path)
    parser.add_argument("images", nargs="+", metavar="IMAGE")
    parser.add_argument("--views", type=int, choices=(1, 10), default=1, help="the centre, or the paper's ten")
    options = parser.read(words)

    from alexnet.classifier import Classifier

    classifier = Classifier.load(options.run)
    predictions, failed = [], None
    for image in options.images:
        try:
            best = classifier.classify(image, options.views)
        except BadInputError as error:
            _complain("classify", error)
            failed = error
            continue
        predictions.append({"image": image, "classes": [{"class": name, "probability": p} for name, p in best]})
        print(_plain(image))
        for name, p in best:
            print(f"    {p:6.1%}  {'█' * round(p * 30):30}  {_plain(name)}")
    result = {"predictions": predictions}
    if failed:
        if options.json:
            print(json.dumps(result))
        raise SystemExit(failed.exit_code)
    return result


def report(words: Sequence[str]) -> Result:
    """`alexnet report RUN`."""
    parser = _parser("report", "One self-contained HTML page about a run.")
    parser.add_argument("run", type=Path)
    options = parser.read(words)

    from alexnet.report.page import write_report

    page = write_report(options.run)
    print(page)
    return {"report": str(page)}


VERBS: dict[str, Callable[[Sequence[str]], Result]] = {
    "inspect": inspect,
    "train": train,
    "evaluate": evaluate,
    "classify": classify,
    "report": report,
}


def main(words: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code says how it ended (runtime/errors.py lists them)."""
    verb, *rest = (sys.argv[1:] if words is None else words) or ["--help"]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without Unicode, a name that is not UTF-8
    try:
        try:
            _run(verb, rest)
        finally:
            sys.stdout.flush()  # here and not at the interpreter's end, where nobody could catch what it raises
    except AlexNetError as error:
        _complain(verb, error)
        return error.exit_code
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # `| head`: nobody is left to read
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        _complain(verb, explain_os_error(error, error.filename or verb))
        return MachineError.exit_code
    except MemoryError:
        _complain(verb, MachineError("memory: not enough; end other programs, or use a smaller --learning.batch"))
        return MachineError.exit_code
    except KeyboardInterrupt:
        print(f"alexnet {verb}: stopped", file=sys.stderr)
        return 130
    return 0


def _run(verb: str, words: Sequence[str]) -> None:
    if verb in ("-h", "--help"):
        print(HELP, end="")
        return
    if verb not in VERBS:
        raise UsageError(f"{verb}: no such verb; {did_you_mean(verb, VERBS)}")
    result = VERBS[verb](words)
    if "--json" in words:
        print(json.dumps(result))


def _complain(verb: str, error: AlexNetError) -> None:
    kind = "" if isinstance(error, Interrupted) else "error: "
    print(f"alexnet {_plain(verb)}: {kind}{_plain(str(error))}", file=sys.stderr)


def _plain(text: str) -> str:
    """One line that a terminal takes for text: names of files and classes may hold newlines and escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _errors_line(what: str, judged: "Predictions") -> str:
    words = {1: "one view", 5: "five patches averaged (its recipe has no reflections)", 10: "ten views averaged"}
    top1, top5 = judged.errors()
    return f"{what}: error {top1:.2%} top-1, {top5:.2%} top-5, {words[judged.views]}"


def _weights(text: str | None, runs: int) -> list[float] | None:
    if text is None:
        return None
    try:
        weights = [float(word) for word in text.split(",")]
    except ValueError:
        raise UsageError(f"--weights: {text!r} are not numbers with commas between them") from None
    if len(weights) != runs or not all(0 <= weight < float("inf") for weight in weights) or sum(weights) <= 0:
        raise UsageError(f"--weights: {text!r}; give {runs} numbers from 0, one a run, not all 0")
    return weights


def _new_run(recipe: str, data: str) -> Path:
    stem = f"{Path(data).resolve().name or 'data'}-{recipe}"
    number = 1
    while (path := Path("runs") / f"{stem}-{number}").exists():
        number += 1
    return path


def _write_report(run: Path, tell: Callable[[str], None]) -> None:
    """The page that ends a run; a run without matplotlib is still a run."""
    from alexnet.report.page import write_report

    try:
        tell(f"report: {write_report(run)}")
    except MachineError as error:
        tell(f"no report: {error}")
