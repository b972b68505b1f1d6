"""`alexnet prepare SOURCE STORE`, and `alexnet prepare STORE --verify`."""

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from alexnet.command_line.words import DATA, Parser, Result, parser
from alexnet.runtime.errors import MachineError, UsageError
from alexnet.runtime.plain import plain
from alexnet.runtime.shelf import Shelf, is_url

if TYPE_CHECKING:
    from alexnet.data.pictures import Dataset
    from alexnet.data.preparation import Preparation
    from alexnet.training.progress import Display

FILTERS = ("bicubic", "bilinear", "lanczos", "area")
SHOWN = 5  # pictures left out that are named; all are in the store


def run(words: Sequence[str]) -> Result:
    """Make a store, or check one."""
    options = _parser().read(words)

    from alexnet.data.preparation import Preparation, advised
    from alexnet.data.prepare import prepare
    from alexnet.data.sources import open_dataset
    from alexnet.data.store import described, read_manifest
    from alexnet.training.progress import Display

    with Display(options.quiet) as display:
        if options.verify:
            if options.store:
                raise UsageError("--verify: takes the store alone; alexnet prepare STORE --verify")
            return _verify(options.source, display)
        if not options.store:
            raise UsageError("STORE is missing; alexnet prepare SOURCE STORE")
        if is_url(options.store) or Path(options.store).is_file():
            raise UsageError(f"{options.store}: is no folder here; prepare into one, then copy it where you want it")
        store, source = Path(options.store), Path(options.source)
        if source.is_dir() and Path(os.path.realpath(store)).is_relative_to(os.path.realpath(source)):
            raise UsageError(f"{store}: lies among the pictures it would be made from; name a folder outside {source}")
        how = Preparation("jpeg", options.side, options.shape or "cropped", options.filter, options.quality)
        how.check()
        dataset = open_dataset(options.source)
        how = replace(how, kind=options.kind or advised(dataset, how.side))
        if dataset.shape and not options.shape:
            how = replace(how, shape=dataset.shape)
        display.tell(
            f"found {dataset.found}: {len(dataset.classes):,} classes, {len(dataset.training):,} pictures to learn "
            f"from, {len(dataset.held_out):,} to be judged by ({dataset.judged_by})"
        )
        for notice in dataset.notices:
            display.say(notice)
        _advise(dataset, how, store, display)
        started = time.monotonic()
        made = prepare(dataset, store, how, lambda *done: display.work("preparing", *done), options.skip_bad)
        seconds = time.monotonic() - started
    for _, fault in made.skipped[:SHOWN]:
        print(f"left out: {plain(fault)}")
    if len(made.skipped) > SHOWN:
        print(f"left out: {len(made.skipped) - SHOWN} more; {store / 'skipped.jsonl'} names them")
    pace = made.made / seconds
    what = described(read_manifest(Shelf(str(store))))
    how_fast = f"{pace:,.0f} images/s" if made.made else "there already"
    print(f"{store}: {made.images:,} pictures, {what}; {len(made.skipped)} left out; {how_fast}")
    return {
        "images": made.images,
        "classes": len(dataset.classes),
        "skipped": len(made.skipped),
        "images_per_second": pace,
        "store": str(store),
        "kind": how.kind,
    }


def _parser() -> Parser:
    known = parser(
        "prepare", "Pictures from any source, once, into squares that training reads fast. Goes on if stopped."
    )
    known.add_argument("source", metavar="SOURCE", help=f"where the pictures are: {DATA}")
    known.add_argument("store", metavar="STORE", nargs="?", help="the folder to make")
    known.add_argument(
        "--kind",
        choices=("jpeg", "pixels"),
        help="jpeg: small; pixels: exact and fastest; by default what fits in memory",
    )
    known.add_argument("--side", type=int, default=256, help="of the squares, in pixels (256)")
    known.add_argument("--shape", choices=("cropped", "squashed"), help="how a picture becomes square (cropped)")
    known.add_argument("--filter", choices=FILTERS, default="bicubic", help="of the rescaling, antialiased (bicubic)")
    known.add_argument("--quality", type=int, default=90, help="of the JPEGs (90)")
    known.add_argument("--skip-bad", type=int, default=0, metavar="N", help="leave out up to N damaged pictures")
    known.add_argument("--verify", action="store_true", help="read a whole store and check every record")
    known.add_argument("--quiet", action="store_true", help="notices only, no progress")
    return known


def _advise(dataset: "Dataset", how: "Preparation", store: Path, display: "Display") -> None:
    """Say how much room each kind takes. Raises MachineError when there is not enough for this one."""
    from alexnet.data.preparation import sizes
    from alexnet.training.progress import size

    needed = sizes(dataset, how.side)
    free = shutil.disk_usage(next(place for place in (store, *store.absolute().parents) if place.exists())).free
    said = " or ".join(f"{size(room)} as {kind}" for kind, room in needed.items())
    display.tell(f"about {said}; making {how.kind}; {size(free)} free")
    already = sum(file.stat().st_size for file in store.glob("*") if file.is_file()) if store.exists() else 0
    # How small JPEGs become is not known beforehand; a full disk ends the work, which then goes on.
    if how.kind == "pixels" and needed[how.kind] > free + already:
        raise MachineError(f"{store}: about {size(needed[how.kind])} needed, {size(free)} free; choose another disk")


def _verify(store: str, display: "Display") -> Result:
    from alexnet.data.store import verify

    shelf = Shelf(store)
    images = verify(shelf, lambda *done: display.work("checking", *done))
    print(f"{store}: whole; {images:,} records checked")
    return {"images": images, "store": store}
