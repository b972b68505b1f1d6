"""`alexnet train DATA [--recipe NAME] [--run DIR] [--resume] [--learning.epochs 5 ...]`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from alexnet.command_line.saying import complain
from alexnet.command_line.words import DATA, Options, Result, parser
from alexnet.runtime.errors import MachineError, UsageError
from alexnet.runtime.plain import plain
from alexnet.runtime.run_folder import RunFolder
from alexnet.training.recipe import Recipe, settable
from alexnet.training.recipes import NAMES, recipe_named

if TYPE_CHECKING:
    from alexnet.runtime.ranks import Ranks
    from alexnet.training.progress import Display


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
    named = recipe_named(options.recipe or "default", images=1).altered(settings)
    if options.recipe or not options.resume:  # a resumed run has a recipe of its own
        named.check()

    from alexnet.runtime.pulse import at_work

    with at_work(lambda error: complain("train", error)) as ranks:
        return _train(options, settings, ranks)


def _train(options: Options, settings: Mapping[str, str], ranks: "Ranks") -> Result:
    from alexnet.data.sources import open_dataset
    from alexnet.evaluation.errors import in_words
    from alexnet.runtime.arrival import may_restart
    from alexnet.training.progress import Display
    from alexnet.training.train import train

    if may_restart() and not options.run:
        raise UsageError("--run: name the run's folder; after a restart it has to be found again")
    dataset = ranks.in_turn(lambda: open_dataset(options.data))
    named: str = ranks.from_first(str(options.run or ""))
    resume = _goes_on(Path(named), options.resume, ranks)
    own = ranks.from_first(_recipe_of(Path(named)) if resume and not options.recipe and ranks.first else None)
    recipe = (
        Recipe.from_json(own, f"{named}/recipe.json") if own
        else recipe_named(options.recipe or "default", len(dataset.training), dataset.reflects)
    ).altered(settings).check_looked_at(settings)  # fmt: skip
    run = Path(named or ranks.from_first(str(_new_run(recipe.name, options.data))))
    with Display(options.quiet, shown=ranks.first) as display:
        result = train(recipe, dataset, run, display, resume=resume, ranks=ranks)
        if not ranks.first:
            return {}
        _write_report(run, display)
    said = in_words(result["top1_error"], result["top5_error"], len(dataset.classes))
    pace = f"{result['images_per_second']:,.0f} images/s"
    print(f"{plain(str(run))}: error {said} on held-out pictures (one view), {pace}")
    return result


def _goes_on(run: Path, asked: bool, ranks: "Ranks") -> bool:
    """Whether to go on with the run there: if any rank was told to, or torchrun has started these processes before and
    they began it. One that was there before was refused then, and is again."""
    from alexnet.runtime.arrival import remembered, restarts

    told, again = ranks.highest(asked, restarts())
    there = ranks.first and RunFolder(run).exists()
    begun = ranks.first and remembered(f"begun/{run}", not there, otherwise=again > 0)
    return bool(told or ranks.from_first(there and begun))


def _recipe_of(run: Path) -> str | None:
    """What the run there was begun with, for it goes on with that unless another is named (and then refused)."""
    folder = RunFolder(run)
    return folder.read_text("recipe.json") if folder.exists() else None


def _new_run(recipe: str, data: str) -> Path:
    stem = f"{Path(data).resolve().name or 'data'}-{recipe}"
    number = 1
    while (path := Path("runs") / f"{stem}-{number}").exists():
        number += 1
    return path


def _write_report(run: Path, display: "Display") -> None:
    """The page that ends a run; a run without matplotlib is still a run."""
    from alexnet.report.page import write_report

    try:
        display.tell(f"report: {write_report(run)}")
    except MachineError as error:
        display.say(f"no report: {error}")
