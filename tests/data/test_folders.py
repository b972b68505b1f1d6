"""Folders as people lay them out: which are splits, which classes, and true words about what is passed over."""

import shutil

import pytest
from PIL import Image

from alexnet.data.sources import open_dataset
from alexnet.runtime.errors import BadInputError


def add(root, *places, count=2):
    for place in places:
        (root / place).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (4, 4), "red").save(root / place / f"{number}.png")
    return root


def refusal(root):
    with pytest.raises(BadInputError) as told:
        open_dataset(str(root))
    assert "\n" not in str(told.value) and "; " in str(told.value)
    return str(told.value)


@pytest.mark.parametrize(
    ("training", "held_out"),
    [
        ("training_set", "test_set"),
        ("train_images", "val_images"),
        ("imagenet-train", "imagenet-val"),
        ("Train Images", "validation"),
        ("train", "Testing_or_test"),
    ],
)
def test_folders_whose_names_tell_two_splits_in_words_are_the_splits(tmp_path, training, held_out):
    add(tmp_path, f"{training}/ant", f"{training}/bee", f"{held_out}/ant", f"{held_out}/bee")
    dataset = open_dataset(str(tmp_path))
    assert (dataset.classes, dataset.divided_here, dataset.notices) == (("ant", "bee"), False, ())
    assert dataset.judged_by == f"the pictures in {held_out}/"
    assert dataset.training.where == f"{tmp_path}/{training}/"


def test_a_folder_to_be_judged_by_is_no_class_whatever_lies_beside_it(tmp_path):
    add(tmp_path, "learning/ant", "learning/bee", "test/ant", "test/bee")
    assert "has test/ but nothing to learn from" in refusal(tmp_path)


def test_an_exact_name_goes_before_one_in_words_and_val_before_test(tmp_path):
    add(tmp_path, *(f"{name}/{each}" for name in ("a train", "train", "a val", "test", "a test") for each in "ab"))
    dataset = open_dataset(str(tmp_path))
    assert (dataset.training.where, dataset.held_out.where) == (f"{tmp_path}/train/", f"{tmp_path}/test/")
    assert len(dataset.notices) == 3 and all("which is beside them" in notice for notice in dataset.notices)
    shutil.rmtree(tmp_path / "test")
    assert open_dataset(str(tmp_path)).held_out.where == f"{tmp_path}/a val/"


@pytest.mark.parametrize("other", ["car", "test tube"])
def test_a_class_whose_name_has_a_splits_word_is_a_class(tmp_path, other):
    """Folders in it make it no split where no other tells the other split and has folders, too."""
    add(tmp_path, "bullet train/front", "bullet train/side", other)
    dataset = open_dataset(str(tmp_path))
    assert dataset.classes == ("bullet train", other) and dataset.divided_here


def test_a_flat_test_folder_beside_train_has_no_labels_and_is_passed_over_with_a_word(tmp_path):
    add(tmp_path, "train/ant", "train/bee", "test")
    dataset = open_dataset(str(tmp_path))
    assert dataset.classes == ("ant", "bee") and dataset.divided_here
    said = f"passed over: {tmp_path}/test/, which holds no class folders: its pictures have no labels"
    assert dataset.notices == (said,)
    add(tmp_path, "val/ant")
    assert open_dataset(str(tmp_path)).notices == (said,)
    shutil.rmtree(tmp_path / "val")
    add(tmp_path, "valid")
    assert refusal(tmp_path).startswith(f"{tmp_path}/valid: holds no class folders; ")


@pytest.mark.parametrize(
    ("link", "to", "told", "first"),
    [
        ("train/moth", "ant", "train/moth", "train/ant"),
        ("train/a link", "ant", "train/ant", "train/a link"),
        ("val", "train", "val", "train"),
        ("val/ant", "../train/ant", "val/ant", "train/ant"),
        ("train/me", ".", "train/me", "train"),
    ],
)
def test_a_folder_is_read_once_whatever_links_to_it(tmp_path, link, to, told, first):
    add(tmp_path, "train/ant", "train/bee")
    (tmp_path / link).parent.mkdir(exist_ok=True)
    (tmp_path / link).symlink_to(to)
    assert refusal(tmp_path) == (
        f"{tmp_path}/{told}: the same folder as {tmp_path}/{first}, which is read already; remove the link"
    )


def test_pictures_that_lie_in_no_class_folder_are_told_apart_from_what_is_no_picture(tmp_path):
    add(tmp_path, "ant", "bee")
    for name in ("IMG_1.jpg", "IMG_2.JPG"):
        (tmp_path / name).write_bytes(b"x")
    said = f"passed over, since they lie in no class folder: {tmp_path}/IMG_1.jpg and 1 more"
    assert open_dataset(str(tmp_path)).notices == (said,)
    (tmp_path / "ant" / "notes.txt").write_bytes(b"x")
    assert set(open_dataset(str(tmp_path)).notices) == {
        said,
        f"passed over, since their names are no pictures': {tmp_path}/ant/notes.txt",
    }


def test_a_class_of_pictures_in_another_format_is_told_how_to_convert_them(tmp_path):
    add(tmp_path, "ant", "bee", "wasp", count=1)
    (tmp_path / "bee" / "0.png").rename(tmp_path / "bee" / "IMG_1.HEIC")
    (tmp_path / "bee" / "IMG_2.HEIC").write_bytes(b"x")
    assert refusal(tmp_path) == (
        f"{tmp_path}/bee: class folder without pictures that can be read (IMG_1.HEIC is none by its name); "
        "convert them to JPEG or PNG, or remove the folder"
    )
    for file in (tmp_path / "bee").iterdir():
        file.unlink()
    assert refusal(tmp_path) == f"{tmp_path}/bee: class folder without pictures; add some or remove the folder"
