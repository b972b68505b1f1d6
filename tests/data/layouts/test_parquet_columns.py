"""Which of Parquet's columns are the pictures and the labels, and what the labels' classes are called."""

import pytest
from alike import PIXEL, assert_alike, labelled, write_class_folders
from rows import parquet, pyarrow, refusal, write_columns, write_parquet

from alexnet.data.sources import open_dataset


@pytest.mark.parametrize("picture", ["image", "img", "jpg", "picture"])
@pytest.mark.parametrize("label", ["label", "class", "wnid"])
def test_plain_bytes_and_classes_by_name_are_what_class_folders_are(tmp_path, pictures, picture, label):
    rows = {"train": labelled(pictures, 3), "val": labelled(pictures, 5)}
    kind = pyarrow.large_binary() if picture == "jpg" else pyarrow.binary()
    for split, members in rows.items():
        names = pyarrow.array([name for name, _ in members])
        columns = {
            "width": pyarrow.array([40] * len(members)),
            label: names.dictionary_encode() if label == "class" else names,
            picture: pyarrow.array([content for _, content in members], kind),
        }
        write_columns(tmp_path / f"{split}.parquet", **columns)
    folders = open_dataset(str(write_class_folders(tmp_path / "folders", **rows)))
    assert_alike(open_dataset(str(tmp_path)), folders)


def test_a_class_that_only_the_held_out_split_names_is_refused(tmp_path):
    encoded = [PIXEL] * 2
    write_columns(tmp_path / "train.parquet", image=encoded, label=["ant", "bee"])
    write_columns(tmp_path / "test.parquet", image=encoded, label=["bee", "wasp\nnest"])
    assert "test.parquet:row 1: label outside" in refusal(tmp_path)
    write_columns(tmp_path / "test.parquet", image=encoded, label=[0, 1])
    assert "differ" in refusal(tmp_path)


def test_the_label_is_the_known_column_or_the_only_one(tmp_path):
    encoded = [PIXEL] * 4
    write_columns(tmp_path / "train.parquet", image=encoded, category=[0, 0, 1, 1])
    assert open_dataset(str(tmp_path)).classes == ("0", "1")
    write_columns(tmp_path / "train.parquet", image=encoded, coarse_label=[0] * 4, fine_label=[0, 0, 1, 1])
    assert open_dataset(str(tmp_path)).classes == ("0", "1")
    write_columns(tmp_path / "train.parquet", image=encoded, width=[0, 0, 1, 1], category=[0, 0, 1, 1])
    assert "which of the columns width, category" in refusal(tmp_path)
    write_columns(tmp_path / "train.parquet", image=encoded, colour=["a", "b", "a", "b"])
    assert "lacks a column of labels" in refusal(tmp_path)
    write_columns(tmp_path / "train.parquet", photograph=encoded, label=[0, 0, 1, 1])
    assert "lacks a column of pictures" in refusal(tmp_path)


@pytest.mark.parametrize("stray", [2**20, 7])
def test_a_stray_large_label_does_not_become_as_many_classes(tmp_path, stray):
    write_parquet(tmp_path / "train.parquet", [0, 1, 2, stray], names=())
    assert f"label {stray}" in refusal(tmp_path) and "class 3" in refusal(tmp_path)


@pytest.mark.parametrize(
    "metadata",
    [
        b"{",
        b"\xff",
        b"[]",
        b"null",
        b'{"info": []}',
        b'{"info": {"features": "label"}}',
        b'{"info": {"features": {"label": ["int64"]}}}',
        b'{"info": {"features": {"label": {"names": "ant"}}}}',
        b'{"info": {"features": {"label": {"names": [1, 2]}}}}',
        b"[" * 100_000,
    ],
)
def test_malformed_metadata_is_named(tmp_path, metadata):
    file = tmp_path / "train.parquet"
    write_parquet(file, [0, 1])
    parquet.write_table(parquet.read_table(file).replace_schema_metadata({"huggingface": metadata}), file)
    assert refusal(tmp_path).startswith(f"{file}: its huggingface metadata are malformed")
