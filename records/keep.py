"""Keep a finished run as a record: the small files of its folder, so that anyone can run it again and compare.

    python records/keep.py RUN NAME [TRIAL]

NAME is a folder here with an `about.json` (what it is, what its author reported); TRIAL tells several runs of it apart.
"""

import json
import shutil
import sys
from pathlib import Path

KEPT = ("recipe.json", "environment.json", "data.json", "journal.jsonl", "result.json")
HERE = Path(__file__).parent


def keep(run: Path, name: str, trial: str) -> Path:
    """Copy the files of one run; the result forgets where the run lay."""
    folder = HERE / name / trial
    folder.mkdir(parents=True, exist_ok=True)
    for file in KEPT:
        shutil.copyfile(run / file, folder / file)
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps(result | {"run": trial}, indent=2) + "\n")
    return folder


if __name__ == "__main__":
    print(keep(Path(sys.argv[1]), sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "run"))
