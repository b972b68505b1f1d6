"""`alexnet classify RUN IMAGE...`."""

import json
from collections.abc import Sequence
from pathlib import Path

from alexnet.command_line.saying import complain
from alexnet.command_line.words import RUN, Result, parser
from alexnet.runtime.errors import BadInputError
from alexnet.runtime.plain import plain


def run(words: Sequence[str]) -> Result:
    """Name what pictures show; a damaged one is told, and the others are still looked at."""
    known = parser("classify", "The five most probable classes of each picture.")
    known.add_argument("run", metavar="RUN", type=Path, help=RUN)
    known.add_argument("images", nargs="+", metavar="IMAGE", help="a JPEG, PNG, WebP, BMP or GIF picture")
    known.add_argument("--views", type=int, choices=(1, 10), default=1, help="the centre, or the paper's ten")
    options = known.read(words)

    from alexnet.classifier import Classifier

    classifier = Classifier.load(options.run)
    predictions, failed = [], None
    for image in options.images:
        try:
            best = classifier.classify(image, options.views)
        except BadInputError as error:
            complain("classify", error)
            failed = error
            continue
        predictions.append({"image": image, "classes": [{"class": name, "probability": p} for name, p in best]})
        print(plain(image))
        for name, p in best:
            print(f"    {p:6.1%}  {'█' * round(p * 30):30}  {plain(name)}")
    result = {"predictions": predictions}
    if failed:
        if options.json:
            print(json.dumps(result))
        raise SystemExit(failed.exit_code)
    return result
