"""Parquet as the Hugging Face hub writes it: splits, names and rows, or one line that names the fault."""

import sys
from pathlib import Path

import numpy as np
import pytest
from alike import PIXEL
from rows import parquet, pyarrow, refusal, write_parquet

from alexnet.data.layouts.parquet import parquet_files
from alexnet.data.sources import open_dataset
from alexnet.runtime.errors import BadInputError, MachineError

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"


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
    rows = [{"bytes": content, "path": None} for content in (None, b"garbage", PIXEL, PIXEL)]
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


def test_classes_of_one_name_are_told_apart_by_their_numbers(tmp_path):
    write_parquet(tmp_path / "train.parquet", [0, 1, 2] * 4, names=("crane", "mouse", "crane"))
    assert open_dataset(str(tmp_path)).classes == ("crane (0)", "mouse", "crane (2)")


def test_splits_with_other_classes_are_refused(tmp_path):
    write_parquet(tmp_path / "train.parquet", [0, 1])
    write_parquet(tmp_path / "test.parquet", [0, 1], names=("bee", "ant"))
    assert str(tmp_path / "test.parquet") in refusal(tmp_path)


@pytest.mark.parametrize(
    ("training", "held_out", "judged_by"),
    [
        ("train-00000-of-00001.parquet", "validation-00000-of-00001.parquet", "the validation split"),
        ("train/0000.parquet", "test/0000.parquet", "the test split"),
        ("data/train/0.parquet", "data/val/0.parquet", "the val split"),
        ("default/train/0000.parquet", "default/validation/0000.parquet", "the validation split"),
        ("plain_text/train-00000-of-00001.parquet", "plain_text/test-00000-of-00001.parquet", "the test split"),
        ("my_train_0.parquet", "my_valid_0.parquet", "the valid split"),
        ("training/part-0.parquet", "VAL/part-0.parquet", "the val split"),
        ("photos.parquet", "test.parquet", "the test split"),
    ],
)
def test_a_split_is_told_by_the_name_of_the_file_or_of_its_folder(tmp_path, training, held_out, judged_by):
    write_parquet(tmp_path / training, [0, 1, 1])
    write_parquet(tmp_path / held_out, [1, 0, 0, 1])
    dataset = open_dataset(str(tmp_path))
    assert (dataset.training.labels.tolist(), dataset.held_out.labels.tolist()) == ([0, 1, 1], [1, 0, 0, 1])
    assert dataset.judged_by == judged_by and dataset.notices == ()
    for part, file in ((dataset.training, training), (dataset.held_out, held_out)):
        assert part.keys[2] == f"{Path(file).name}:row 2"
        assert part.name(2) == f"{tmp_path / file}:row 2"


def test_parquet_elsewhere_is_not_taken_for_a_data_set(tmp_path):
    write_parquet(tmp_path / "ant/embeddings.parquet", [0, 1])
    write_parquet(tmp_path / ".cache/train.parquet", [0, 1])
    write_parquet(tmp_path / "__MACOSX/train.parquet", [0, 1])
    (tmp_path / "train.parquet.partial").write_bytes(b"")
    (tmp_path / "._train.parquet").write_bytes(b"")
    assert parquet_files(tmp_path) == []


def test_of_several_configurations_default_is_read_or_one_is_named(tmp_path):
    write_parquet(tmp_path / "small/train-00000-of-00001.parquet", [0, 1, 1] * 2)
    write_parquet(tmp_path / "large/train/0000.parquet", [0, 1] * 5)
    assert "(large, small)" in refusal(tmp_path)
    assert len(open_dataset(str(tmp_path / "large")).training) == 8
    write_parquet(tmp_path / "default/train/0000.parquet", [0, 1] * 10)
    assert len(open_dataset(str(tmp_path)).training) == 16


def test_what_is_not_used_or_not_whole_is_told(tmp_path):
    write_parquet(tmp_path / "data/train-00000-of-00003.parquet", [0, 1])
    write_parquet(tmp_path / "data/train-00002-of-00003.parquet", [0, 1])
    for other in ("validation-00000-of-00001", "test-00000-of-00001", "extra"):
        write_parquet(tmp_path / f"data/{other}.parquet", [0, 1])
    count, test, extra = open_dataset(str(tmp_path)).notices
    assert count == "data/train-*-of-00003.parquet: only 2 of 3 files are there"
    assert test == "the test split is not used"
    assert "data/extra.parquet" in extra
    write_parquet(tmp_path / "hub/partial-train/0000.parquet", [0, 1] * 5)
    assert any("partial-train" in notice for notice in open_dataset(str(tmp_path / "hub")).notices)


@pytest.mark.parametrize("labels", [[-1, -1], [None, None]])
def test_a_test_split_without_labels_judges_nothing(tmp_path, labels):
    write_parquet(tmp_path / "train.parquet", [0, 1] * 10)
    write_parquet(tmp_path / "test.parquet", labels)
    dataset = open_dataset(str(tmp_path))
    assert (len(dataset.training), len(dataset.held_out)) == (16, 4)
    assert dataset.notices == ("the test split has no labels, so nothing can be judged by it",)
    write_parquet(tmp_path / "test.parquet", [-1, 1])
    assert "test.parquet:row 0: label outside" in refusal(tmp_path), "one label is missing: that is a fault"


def test_splits_without_one_to_learn_from_are_refused(tmp_path):
    write_parquet(tmp_path / "validation.parquet", [0, 1] * 5)
    write_parquet(tmp_path / "test.parquet", [0, 1] * 5)
    assert "none to learn from" in refusal(tmp_path)
    assert len(open_dataset(str(tmp_path / "test.parquet")).training) == 8


def test_files_of_one_name_in_one_split_are_refused(tmp_path):
    write_parquet(tmp_path / "train/0000.parquet", [0, 1])
    write_parquet(tmp_path / "training/0000.parquet", [0, 1])
    assert "0000.parquet in one split" in refusal(tmp_path)


def test_without_pyarrow_its_name_is_told(tmp_path, monkeypatch):
    write_parquet(tmp_path / "train.parquet", [0, 1])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MachineError, match=r"^pyarrow: .*alexnet\[parquet\]"):
        open_dataset(str(tmp_path))


def test_cifar_10_as_the_hub_has_it_is_whole():
    if not (SHARED / "cifar10").exists():
        pytest.skip("no CIFAR-10 in ../shared/data")
    dataset = open_dataset(str(SHARED / "cifar10"))
    assert (len(dataset.training), len(dataset.held_out)) == (50_000, 10_000)
    assert np.bincount(dataset.training.labels).tolist() == [5000] * 10
    assert np.bincount(dataset.held_out.labels).tolist() == [1000] * 10
    assert dataset.classes[3] == "cat"
    assert dataset.training.pixels(49_999).shape == (32, 32, 3)
