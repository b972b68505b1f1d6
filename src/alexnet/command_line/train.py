"""`alexnet train DATA [--recipe NAME] [--run DIR] [--resume] [--learning.epochs 5 ...]`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from alexnet.command_line.saying import both_errors
from alexnet.command_line.words import DATA, Result, parser
from alexnet.data.pictures import Dataset
from alexnet.runtime.errors import MachineError, UsageError
from alexnet.training.recipe import Recipe, settable
from alexnet.training.recipes import NAMES, recipe_named


def run(words: Sequence[str]) -> Result:
    """Learn from pictures."""
    known = parser("train", "Learn from pictures. Ctrl-C saves; --resume goes on, to the same bits.")
    known.add_argument("data", metavar="DATA", help=f"what to learn from: {DATA}")
    known.add_argument(
        "--recipe", metavar="NAME", help=f"one of {', '.join(NAMES)}; default, or with --resume the run's own"
    )
    known.add_argument("--run", type=Path, metavar="DIR", help="the run's folder; a new one in runs/ by default")
    known.add_argument("--resume", action="store_true", help="go on with the run in --run")
    known.add_argument("--quiet", action="store_true", help="notices only, no progress")
    group = known.add_argument_group("numbers of the recipe")
    for name, (_, meaning) in settable().items():
        group.add_argument(f"--{name}", metavar="X", help=meaning.replace("%", "%%"))
    options = known.read(words)
    settings = {name: value for name in settable() if (value := getattr(options, name)) is not None}
    if options.resume and not options.run:
        raise UsageError("--resume: which run? name it with --run")
    # Wrong names are found before any picture is read; how many pictures there are matters to the default recipe only.
    recipe_named(options.recipe or "default", images=1).altered(settings).check()

    from alexnet.data.sources import open_dataset
    from alexnet.training.progress import Display
    from alexnet.training.train import train

    dataset = open_dataset(options.data)
    recipe = _recipe(options.recipe, settings, dataset, options.run if options.resume else None)
    run = options.run or _new_run(recipe.name, options.data)
    with Display(options.quiet) as display:
        result = train(recipe, dataset, run, display, resume=options.resume)
        _write_report(run, display.tell)
    print(
        f"{run}: error {both_errors(result['top1_error'], result['top5_error'], len(dataset.classes))} on held-out "
        f"pictures (one view), {result['images_per_second']:,.0f} images/s"
    )
    return result


def _recipe(name: str | None, settings: Mapping[str, str], dataset: Dataset, resumed: Path | None) -> Recipe:
    """The recipe that was asked for; a run that goes on has its own, unless another is named (and then refused)."""
    from alexnet.runtime.run_folder import RunFolder

    if resumed and name is None and (folder := RunFolder(resumed)).exists():
        own = Recipe.from_json(folder.read_text("recipe.json"), str(resumed / "recipe.json"))
        return own.altered(settings)
    return recipe_named(name or "default", len(dataset.training), dataset.reflects).altered(settings)


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
