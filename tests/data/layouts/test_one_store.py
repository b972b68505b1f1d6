"""Whatever layout the same pictures come in, the store is the same: pixels, labels, classes, statistics."""

import io
import json

import numpy as np
import pytest
from miniature import HELD_OUT, SORTED, TRAINING, VALIDATION, write_archives, write_folders, write_kaggle
from tars import tar

from alexnet.data.preparation import Preparation
from alexnet.data.prepare import prepare
from alexnet.data.sources import open_dataset
from alexnet.data.store import open_store
from alexnet.runtime.shelf import Shelf

SPLITS = {
    "train": [(name, TRAINING[name][file]) for name in SORTED for file in sorted(TRAINING[name])],
    "val": [
        (name, HELD_OUT[file])
        for name in SORTED
        for file, own in sorted(zip(HELD_OUT, VALIDATION, strict=True))
        if own == name
    ],
}


def write_webdataset(root):
    for split, rows in SPLITS.items():
        members = [
            (f"{number:06}.{ending}", content)
            for number, (name, picture) in enumerate(rows)
            for ending, content in (("jpeg", picture), ("cls", str(SORTED.index(name)).encode()))
        ]
        tar(root / f"imagenet-{split}-000000.tar", *members)
    (root / "classes.json").write_text(json.dumps(SORTED))
    return root


def write_hub(root):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow writes Parquet")
    from pyarrow import parquet

    features = {"label": {"names": SORTED, "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    (root / "data").mkdir(parents=True)
    for split, rows in (("train", SPLITS["train"]), ("validation", SPLITS["val"])):
        pictures = [{"bytes": picture, "path": None} for _, picture in rows]
        table = pyarrow.table({"image": pictures, "label": [SORTED.index(name) for name, _ in rows]})
        half = len(rows) // 2
        for number, part in enumerate((table[:half], table[half:])):
            file = io.BytesIO()
            parquet.write_table(part.replace_schema_metadata(metadata), file, row_group_size=2)
            (root / "data" / f"{split}-0000{number}-of-00002.parquet").write_bytes(file.getvalue())
    return root


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folders")
    return stored(write_folders(folder / "source"), folder / "store")


def stored(source, store):
    prepare(open_dataset(str(source)), store, Preparation("pixels", 8), lambda done, total: None)
    return store


@pytest.mark.parametrize("write", [write_archives, write_kaggle, write_webdataset, write_hub])
def test_every_layout_of_the_same_pictures_gives_the_same_store(write, expected, tmp_path):
    store = stored(write(tmp_path / "source"), tmp_path / "store")
    same = ["classes.json", "statistics.safetensors"]
    same += [f"{split}{part}" for split in ("train", "val") for part in ("-000000.npy", ".index.npy")]
    if write in (write_archives, write_kaggle):
        same += ["train.keys.jsonl", "val.keys.jsonl"]  # the others have names of their own
    assert {name: (store / name).read_bytes() for name in same} == {
        name: (expected / name).read_bytes() for name in same
    }


def test_a_store_of_them_keeps_the_right_labels(expected):
    dataset = open_store(Shelf(str(expected)))
    assert dataset.classes == SORTED
    assert [SORTED[label] for label in dataset.held_out.labels] == [name for name, _ in SPLITS["val"]]
    counts = np.bincount(dataset.training.labels)
    assert counts.tolist() == [len(TRAINING[name]) for name in SORTED]
