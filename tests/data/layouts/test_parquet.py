"""Parquet as the Hugging Face hub writes it: splits, names and rows, or one line that names the fault."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet.data.sources import open_dataset
from alexnet.runtime.errors import BadInputError

pyarrow = pytest.importorskip("pyarrow", reason="pyarrow reads and writes Parquet")
parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow reads and writes Parquet")

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
PIXEL = io.BytesIO()
Image.new("RGB", (4, 4), (10, 200, 30)).save(PIXEL, "PNG")
PICTURE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


def refusal(source):
    with pytest.raises(BadInputError) as told:
        open_dataset(str(source))
    assert "; " in str(told.value)
    return str(told.value)


def write_parquet(file, labels, names=("ant", "bee"), picture="image", label="label", **extra):
    """As the hub writes it: encoded pictures beside their path, whole-number labels, names in the schema's metadata."""
    columns = {
        **extra,
        picture: pyarrow.array(
            [{"bytes": PIXEL.getvalue(), "path": f"{row}.png"} for row in range(len(labels))], PICTURE
        ),
        label: pyarrow.array(labels, pyarrow.int64()),
    }
    features = {picture: {"_type": "Image"}, label: {"names": list(names), "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if names else {}
    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(columns).replace_schema_metadata(metadata), file)


def test_parquet_of_the_hub_has_its_splits_and_its_names(tmp_path):
    write_parquet(tmp_path / "data/train-00000-of-00002.parquet", [0, 1, 1])
    write_parquet(tmp_path / "data/train-00001-of-00002.parquet", [1, 0])
    write_parquet(tmp_path / "data/validation-00000-of-00001.parquet", [1, 0])
    write_parquet(tmp_path / "data/test-00000-of-00001.parquet", [-1, -1])
    dataset = open_dataset(str(tmp_path))
    assert dataset.classes == ("ant", "bee")
    assert dataset.training.labels.tolist() == [0, 1, 1, 1, 0]
    assert dataset.held_out.labels.tolist() == [1, 0]
    assert dataset.training.pixels(4).tolist() == [[[10, 200, 30]] * 4] * 4
    assert dataset.training.keys[3] == "train-00001-of-00002.parquet:row 0"


@pytest.mark.parametrize("place", ["only.parquet", "train.parquet", "data/test-00000-of-00001.parquet"])
def test_parquet_with_one_split_is_divided(tmp_path, place):
    write_parquet(tmp_path / place, [0] * 10 + [1] * 15, img_id=list(range(25)))
    for source in (tmp_path, tmp_path / place):
        dataset = open_dataset(str(source))
        assert np.bincount(dataset.training.labels).tolist() == [8, 12]
        assert np.bincount(dataset.held_out.labels).tolist() == [2, 3]


def test_parquet_without_names_numbers_its_classes(tmp_path):
    write_parquet(tmp_path / "train.parquet", [0, 2, 1] * 4, names=(), picture="img", label="fine_label")
    write_parquet(tmp_path / "test.parquet", [1, 0], names=(), picture="img", label="fine_label")
    dataset = open_dataset(str(tmp_path))
    assert dataset.classes == ("0", "1", "2"), "though no picture of class 2 is judged"
    assert dataset.held_out.labels.tolist() == [1, 0]


def test_a_picture_that_parquet_lacks_or_has_damaged_is_named_by_its_row(tmp_path):
    rows = [{"bytes": content, "path": None} for content in (None, b"garbage", PIXEL.getvalue(), PIXEL.getvalue())]
    labels = pyarrow.array([0, 0, 1, 1])
    parquet.write_table(pyarrow.table({"image": rows, "label": labels}), tmp_path / "train.parquet")
    write_parquet(tmp_path / "test.parquet", [0, 1], names=())
    part = open_dataset(str(tmp_path)).training
    for row in (0, 1):
        with pytest.raises(BadInputError, match=rf"train\.parquet:row {row}: "):
            part.pixels(row)
    assert part.pixels(2).shape == (4, 4, 3)


@pytest.mark.parametrize(
    ("labels", "names", "fault"),
    [
        ([0, 1, 2], ("ant", "bee"), "label outside"),
        ([0, -1, 1], ("ant", "bee"), "label outside"),
        ([0, None, 1], ("ant", "bee"), "row without label"),
        ([], ("ant", "bee"), "no rows"),
        ([0, 0, 0], ("ant", "bee"), "class bee has no pictures"),
        ([0, 0], ("ant",), "1 class"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path, labels, names, fault):
    write_parquet(tmp_path / "train.parquet", labels, names)
    assert fault in refusal(tmp_path)


def test_parquet_that_is_none_or_lacks_its_columns_is_refused(tmp_path):
    (tmp_path / "train.parquet").write_bytes(b"PAR1 not really")
    assert refusal(tmp_path).startswith(f"{tmp_path / 'train.parquet'}: ")
    parquet.write_table(pyarrow.table({"text": ["a"], "label": [0]}), tmp_path / "train.parquet")
    assert "column" in refusal(tmp_path)


def test_splits_with_other_classes_are_refused(tmp_path):
    write_parquet(tmp_path / "train.parquet", [0, 1])
    write_parquet(tmp_path / "test.parquet", [0, 1], names=("bee", "ant"))
    assert str(tmp_path / "test.parquet") in refusal(tmp_path)


def test_cifar_10_as_the_hub_has_it_is_whole():
    if not (SHARED / "cifar10").exists():
        pytest.skip("no CIFAR-10 in ../shared/data")
    dataset = open_dataset(str(SHARED / "cifar10"))
    assert (len(dataset.training), len(dataset.held_out)) == (50_000, 10_000)
    assert np.bincount(dataset.training.labels).tolist() == [5000] * 10
    assert np.bincount(dataset.held_out.labels).tolist() == [1000] * 10
    assert dataset.classes[3] == "cat"
    assert dataset.training.pixels(49_999).shape == (32, 32, 3)
