"""Kaggle's folders: the same data set as class folders of the same pictures, or one line that tells why not."""

import shutil

import pytest
from miniature import (
    HELD_OUT,
    ROW_END,
    VALIDATION,
    assert_same,
    picture,
    table,
    write_files,
    write_folders,
    write_kaggle,
)

from alexnet.data.layouts.folders import read_folders
from alexnet.data.layouts.kaggle import looks_like_kaggle, read_kaggle
from alexnet.runtime.errors import BadInputError

TABLE = "LOC_val_solution.csv"
PLACE = "ILSVRC/Data/CLS-LOC"
LAST = len(VALIDATION) + 2  # the line after the last


@pytest.fixture
def kaggle(tmp_path):
    return write_kaggle(tmp_path / "kaggle")


@pytest.fixture
def folders(tmp_path):
    return read_folders(write_folders(tmp_path / "folders"))


def refusal(path):
    with pytest.raises(BadInputError) as told:
        read_kaggle(path)
    message = str(told.value)
    assert "\n" not in message and "; " in message and message.startswith(str(path))
    return message.removeprefix(f"{path}/")


def test_kaggles_folders_are_the_same_data_set_as_class_folders(kaggle, folders, monkeypatch):
    monkeypatch.chdir(kaggle / "ILSVRC")
    for path in (kaggle, kaggle / "ILSVRC", kaggle / "ILSVRC" / ".."):
        assert looks_like_kaggle(path)
        assert_same(read_kaggle(path), folders)
    for path in (".", "../ILSVRC", ".."):
        assert_same(read_kaggle(type(kaggle)(path)), folders)


def test_what_it_says_of_itself(kaggle):
    dataset = read_kaggle(kaggle)
    assert dataset.found == "ImageNet in Kaggle's folders, 4 classes"
    assert dataset.judged_by == f"the validation images, labelled by {TABLE}"
    assert dataset.notices == (f"{kaggle / PLACE / 'test'}: has no labels, passed over",)
    shutil.rmtree(kaggle / PLACE / "test")
    assert read_kaggle(kaggle).notices == ()
    assert not dataset.divided_here and dataset.reflects


def test_each_validation_picture_has_the_first_class_of_its_row(kaggle):
    judged, truth = read_kaggle(kaggle).held_out, dict(zip(HELD_OUT, VALIDATION, strict=True))
    assert [truth[key.split("/")[1]] for key in judged.keys] == [key.split("/")[0] for key in judged.keys]
    assert judged.keys[0] == "n01440764/ILSVRC2012_val_00000002.JPEG"


def test_the_table_of_words_is_not_needed(kaggle, folders):
    (kaggle / "LOC_synset_mapping.txt").unlink()
    assert_same(read_kaggle(kaggle), folders)


def test_the_table_may_have_a_mark_windows_line_ends_and_blank_lines(kaggle, folders):
    (kaggle / TABLE).write_bytes(b"\xef\xbb\xbf" + table().replace(b"\n", b"\r\n") + b"\r\n\r\n")
    assert_same(read_kaggle(kaggle), folders)


def test_validation_pictures_that_were_sorted_into_class_folders_need_no_table(kaggle, folders):
    for name, file in zip(VALIDATION, HELD_OUT, strict=True):
        (kaggle / PLACE / "val" / name).mkdir(exist_ok=True)
        (kaggle / PLACE / "val" / file).rename(kaggle / PLACE / "val" / name / file)
    (kaggle / TABLE).unlink()
    assert_same(read_kaggle(kaggle), folders)


@pytest.mark.parametrize("sorted_ones", [False, True])
def test_what_is_passed_over_is_told(kaggle, sorted_ones):
    place = kaggle / PLACE
    if sorted_ones:
        shutil.rmtree(place / "val")
        shutil.copytree(place / "train", place / "val")
    stray = next(folder for folder in (place / "train").iterdir() if folder.is_dir()) / "scan.tiff"
    stray.write_bytes(b"II*")
    told = read_kaggle(kaggle).notices
    assert f"passed over, since their names are no pictures': {stray}" in told


def test_other_folders_are_not_taken_for_kaggles(kaggle, tmp_path):
    assert not looks_like_kaggle(write_folders(tmp_path / "plain"))
    assert not looks_like_kaggle(kaggle / PLACE) and not looks_like_kaggle(tmp_path / "nowhere")


def test_a_missing_table_is_named(kaggle):
    (kaggle / TABLE).unlink()
    for path in (kaggle, kaggle / "ILSVRC"):
        with pytest.raises(BadInputError, match=rf"^{kaggle / TABLE}: missing"):
            read_kaggle(path)


@pytest.mark.parametrize("name", ["train", "val"])
def test_a_missing_folder_is_named(kaggle, name):
    shutil.rmtree(kaggle / PLACE / name)
    assert refusal(kaggle).startswith(f"{PLACE}/{name}: missing")


def test_a_class_without_pictures_is_named(kaggle):
    (kaggle / PLACE / "train" / "n09999999").mkdir()
    assert refusal(kaggle).startswith(f"{PLACE}/train/n09999999: ")


def test_a_picture_without_a_row_is_named(kaggle):
    (kaggle / TABLE).write_bytes(table(VALIDATION[:-1]))
    assert refusal(kaggle).startswith(f"{PLACE}/val/ILSVRC2012_val_00000007.JPEG: has no row in ")


def test_two_pictures_of_one_row_are_named(kaggle):
    write_files(kaggle, {f"{PLACE}/val/ILSVRC2012_val_00000003.png": picture(3)})
    assert refusal(kaggle).startswith(f"{PLACE}/val/ILSVRC2012_val_00000003.png: ")


@pytest.mark.parametrize(
    ("content", "line", "fault"),
    [
        (table((*VALIDATION, "n02119789")), 2, "has no picture ILSVRC2012_val_00000008"),
        (table().replace(b"n02110185", b"n09999999"), LAST - 1, "class n09999999 is not in"),
        (table() + b"ILSVRC2012_val_00000003,n02110185 1 2 3 4\n", LAST, "ILSVRC2012_val_00000003 has a row already"),
        (table() + b"ILSVRC2012_val_00000003\n", LAST, "not an image and its class"),
        (table() + b"ILSVRC2012_val_00000003,\n", LAST, "not an image and its class"),
        (table() + b"ILSVRC2012_val_00000003,n02110185,1\n", LAST, "not an image and its class"),
        (table() + b"\xff\xfe,n02110185\n", LAST, "has no picture"),
        (table() + b'"n02110185', LAST, "unexpected end"),
        (table().split(b"\n", 1)[1], 1, "header"),
        (b"", 1, "header"),
        (b"\0\0\0", 1, ""),
    ],
)
def test_a_row_that_does_not_fit_is_named_by_its_line(kaggle, content, line, fault):
    (kaggle / TABLE).write_bytes(content)
    message = refusal(kaggle)
    assert message.startswith(f"{TABLE}: line {line}: ") and fault in message
    assert ROW_END not in message


def test_a_damaged_picture_is_named_where_it_lies(kaggle):
    (kaggle / PLACE / "val/ILSVRC2012_val_00000002.JPEG").write_bytes(b"")
    with pytest.raises(BadInputError, match=rf"^{kaggle / PLACE}/val/ILSVRC2012_val_00000002\.JPEG: "):
        read_kaggle(kaggle).held_out.pixels(0)
