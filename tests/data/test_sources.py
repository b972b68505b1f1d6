"""What a person points at, read alike whatever it is, or refused in a line that names the fault."""

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet.data.decode import square
from alexnet.data.pictures import check_learnable
from alexnet.data.sources import open_dataset
from alexnet.runtime.errors import BadInputError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
PIXEL = io.BytesIO()
Image.new("RGB", (4, 4), (10, 200, 30)).save(PIXEL, "PNG")


def add_pictures(root, **classes):
    for name, count in classes.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (root / name / f"{number}.png").write_bytes(PIXEL.getvalue())
    return root


def refusal(source):
    with pytest.raises(BadInputError) as told:
        check_learnable(open_dataset(str(source)))
    assert "\n" not in str(told.value) and "; " in str(told.value)
    return str(told.value)


def test_class_folders_are_classes_in_the_order_of_their_names(pictures):
    dataset = open_dataset(str(pictures))
    assert dataset.classes == ("blue", "green", "red")
    assert (len(dataset.training), len(dataset.held_out)) == (30, 6)
    for part in (dataset.training, dataset.held_out):
        for number, (label, key) in enumerate(zip(part.labels, part.keys, strict=True)):
            assert key.startswith(f"{dataset.classes[label]}/")
            strongest = part.pixels(number).reshape(-1, 3).mean(axis=0).argmax()
            assert ("red", "green", "blue")[strongest] == dataset.classes[label]


def test_train_and_val_folders_are_the_two_splits(tmp_path):
    add_pictures(tmp_path / "train", ant=3, bee=4, cat=5)
    add_pictures(tmp_path / "val", bee=2, cat=1)
    dataset = open_dataset(str(tmp_path))
    assert dataset.classes == ("ant", "bee", "cat")
    assert dataset.training.labels.tolist() == [0] * 3 + [1] * 4 + [2] * 5
    assert dataset.held_out.labels.tolist() == [1, 1, 2], "numbered as in train/, though val/ has no ant"
    for part, folder in ((dataset.training, "train"), (dataset.held_out, "val")):
        assert all(Path(part.where + key).parent.parent == tmp_path / folder for key in part.keys)


def test_a_train_folder_alone_is_divided_like_any_folder(tmp_path):
    add_pictures(tmp_path / "train", ant=10, bee=5)
    dataset = open_dataset(str(tmp_path))
    assert dataset.classes == ("ant", "bee")
    assert np.bincount(dataset.held_out.labels).tolist() == [2, 1]


def test_one_in_five_of_each_class_is_held_out_and_none_is_in_both(tmp_path):
    dataset = open_dataset(str(add_pictures(tmp_path, few=2, some=9, many=50)))
    held = np.bincount(dataset.held_out.labels)
    assert dict(zip(dataset.classes, held.tolist(), strict=True)) == {"few": 1, "many": 10, "some": 1}
    assert not set(dataset.training.keys) & set(dataset.held_out.keys)
    assert len(dataset.training) + len(dataset.held_out) == 61


def test_the_held_out_share_is_the_same_wherever_the_folder_lies(tmp_path, monkeypatch):
    here = add_pictures(tmp_path / "here", ant=40, bee=40)
    there = Path(shutil.copytree(here, tmp_path / "far" / "away"))
    first = open_dataset(str(here))
    chosen = set(first.held_out.keys)
    in_order = sorted(first.training.keys + first.held_out.keys)
    assert chosen != {*in_order[:8], *in_order[40:48]}, "not merely the first"
    monkeypatch.chdir(here.parent)
    for place in (here, there, "here", "./here/", here.parent / "far" / ".." / "here"):
        again = open_dataset(str(place))
        assert set(again.held_out.keys) == chosen
        assert again.digest == first.digest, "so that a run can be resumed"


def test_a_picture_that_is_added_moves_at_most_one_other_of_its_class_and_none_elsewhere(tmp_path):
    add_pictures(tmp_path, ant=17, bee=17)
    before = set(open_dataset(str(tmp_path)).held_out.keys)
    moves = []
    for number in range(100, 120):
        (tmp_path / "ant" / f"{number}.png").write_bytes(PIXEL.getvalue())
        after = set(open_dataset(str(tmp_path)).held_out.keys)
        changed = (before ^ after) - {f"ant/{number}.png"}
        assert len(changed) <= 1 and all(name.startswith("ant/") for name in changed)
        moves.append(len(changed))
        before = after
    assert 0 < sum(moves) < len(moves)


def test_hidden_files_and_folders_and_what_is_no_picture_are_passed_over(tmp_path):
    add_pictures(tmp_path, ant=5, bee=5)
    plain = open_dataset(str(tmp_path))
    add_pictures(tmp_path, **{".ipynb_checkpoints": 3, "__MACOSX": 3, "ant/.thumbnails": 2, ".git": 1})
    for name in ("ant/.DS_Store", "ant/._0.png", "bee/readme.txt", "bee/Thumbs.db", "labels.csv", ".hidden.png"):
        (tmp_path / name).write_text("not a picture")
    assert open_dataset(str(tmp_path)).digest == plain.digest


def test_pictures_in_folders_below_a_class_belong_to_it(tmp_path):
    add_pictures(tmp_path, ant=2, bee=2, **{"bee/queens/young": 3})
    dataset = open_dataset(str(tmp_path))
    assert dataset.classes == ("ant", "bee")
    assert len(dataset.training) + len(dataset.held_out) == 7


def test_names_in_any_script_are_read(tmp_path):
    add_pictures(tmp_path, **{"Ünïcødé 日本 🐢": 3, "bee\nqueen": 3})
    (tmp_path / "bee\nqueen" / os.fsdecode(b"\xff\xfe.png")).write_bytes(PIXEL.getvalue())
    dataset = open_dataset(str(tmp_path))
    assert set(dataset.classes) == {"Ünïcødé 日本 🐢", "bee\nqueen"}
    assert len(dataset.digest) == 64
    for part in (dataset.training, dataset.held_out):
        assert all(part.pixels(number).shape == (4, 4, 3) for number in range(len(part)))


def test_the_digest_tells_another_name_another_label_and_another_class(tmp_path):
    add_pictures(tmp_path, ant=6, bee=6)
    seen = {open_dataset(str(tmp_path)).digest}
    assert open_dataset(str(tmp_path)).digest in seen
    for change in (
        lambda: (tmp_path / "ant/0.png").rename(tmp_path / "ant/new.png"),
        lambda: (tmp_path / "ant/1.png").rename(tmp_path / "bee/moved.png"),
        lambda: (tmp_path / "bee").rename(tmp_path / "wasp"),
    ):
        change()
        digest = open_dataset(str(tmp_path)).digest
        assert digest not in seen
        seen.add(digest)


def test_an_empty_class_is_named(tmp_path):
    add_pictures(tmp_path, ant=3, bee=0, cat=3)
    assert refusal(tmp_path).startswith(f"{tmp_path / 'bee'}: ")
    (tmp_path / "bee" / "notes.txt").write_text("soon")
    assert refusal(tmp_path).startswith(f"{tmp_path / 'bee'}: ")


def test_one_class_is_refused(tmp_path):
    add_pictures(tmp_path, ant=3)
    assert "1 class" in refusal(tmp_path) and str(tmp_path) in refusal(tmp_path)


def test_the_only_picture_of_a_class_is_named(tmp_path):
    add_pictures(tmp_path, ant=3, bee=1)
    assert refusal(tmp_path).startswith(f"{tmp_path / 'bee' / '0.png'}: ")


def test_a_class_that_only_val_has_is_named(tmp_path):
    add_pictures(tmp_path / "train", ant=3, bee=3)
    add_pictures(tmp_path / "val", ant=1, wasp=1)
    assert refusal(tmp_path).startswith(f"{tmp_path / 'val' / 'wasp'}: ")


def test_a_val_folder_alone_is_to_be_named_itself(tmp_path):
    add_pictures(tmp_path / "val", ant=2, wasp=2)
    assert refusal(tmp_path) == f"{tmp_path}: has val/ but nothing to learn from; name {tmp_path}/val to judge by it"
    assert open_dataset(str(tmp_path / "val")).classes == ("ant", "wasp")


def test_what_is_missing_or_nothing_we_read_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "picture.jpg").write_bytes(PIXEL.getvalue())
    for name in ("nowhere", "empty", "picture.jpg", "picture.jpg/below"):
        assert refusal(tmp_path / name).startswith(f"{tmp_path / name}: ")
    assert refusal("").startswith("'': ")
    assert refusal("x" * 5000).startswith("xxx")


def test_a_damaged_picture_is_named_when_it_is_read(tmp_path):
    add_pictures(tmp_path, ant=2, bee=2)
    for file in tmp_path.glob("*/*.png"):
        file.write_bytes(b"")
    part = open_dataset(str(tmp_path)).training
    with pytest.raises(BadInputError, match=f"^{tmp_path}/{part.keys[0]}: "):
        part.pixels(0)


def test_the_digits_are_ten_classes_of_small_grey_pictures():
    pytest.importorskip("sklearn", reason="scikit-learn holds the digits")
    dataset = open_dataset("digits")
    assert dataset.classes == tuple("0123456789")
    assert len(dataset.training) + len(dataset.held_out) == 1797
    assert np.bincount(dataset.held_out.labels).min() > 30
    pixels = dataset.held_out.pixels(0)
    assert pixels.shape == (8, 8, 3) and (pixels[:, :, 0] == pixels[:, :, 2]).all() and pixels.max() > 200
    assert open_dataset("digits").digest == dataset.digest


def test_imagenets_own_photographs_become_squares():
    if not (SHARED / "imagenet-originals").exists():
        pytest.skip("no ImageNet photographs in ../shared/data")
    dataset = open_dataset(str(SHARED / "imagenet-originals"))
    assert len(dataset.classes) == 50
    assert len(dataset.training) + len(dataset.held_out) == 249
    for number in range(0, len(dataset.held_out), 10):
        cut = square(dataset.held_out.pixels(number), 256)
        assert cut.shape == (256, 256, 3) and cut.std() > 5, dataset.held_out.keys[number]


def test_a_class_of_trains_is_a_class(tmp_path):
    for name in ("car", "train"):
        (tmp_path / name).mkdir()
        for number in range(4):
            Image.new("RGB", (8, 8), "red").save(tmp_path / name / f"{number}.png")
    assert open_dataset(str(tmp_path)).classes == ("car", "train")


def test_a_held_out_folder_may_have_one_of_the_classes_only(tmp_path):
    for place in ("train/a", "train/b", "val/b"):
        (tmp_path / place).mkdir(parents=True)
        Image.new("RGB", (8, 8), "red").save(tmp_path / place / "0.png")
    assert open_dataset(str(tmp_path)).held_out.labels.tolist() == [1]


def test_files_that_are_no_pictures_are_passed_over_with_a_word(own_pictures):
    assert open_dataset(str(own_pictures)).notices == ()
    (own_pictures / "red" / "Thumbs.db").write_bytes(b"x")
    (own_pictures / "red" / ".DS_Store").write_bytes(b"x")
    (own_pictures / "labels.csv").write_text("x")
    (notice,) = open_dataset(str(own_pictures)).notices
    assert notice.endswith(f"{own_pictures}/labels.csv and 1 more")
    assert len(open_dataset(str(own_pictures)).training) == 30


def test_what_lies_beside_train_and_val_is_told_and_a_flat_val_is_refused(own_pictures, tmp_path):
    for name in ("train", "val"):
        shutil.copytree(own_pictures, tmp_path / "data" / name)
    shutil.copytree(own_pictures / "red", tmp_path / "data" / "bus")
    assert open_dataset(str(tmp_path / "data")).notices == (f"passed over: {tmp_path}/data/bus/, which is beside them",)
    shutil.rmtree(tmp_path / "data" / "val")
    shutil.copytree(own_pictures / "red", tmp_path / "data" / "val")
    with pytest.raises(BadInputError, match=f"^{tmp_path}/data/val: holds no class folders; "):
        open_dataset(str(tmp_path / "data"))


def test_linked_folders_are_followed_but_not_in_circles(own_pictures, tmp_path):
    shutil.copytree(own_pictures / "red", tmp_path / "elsewhere")
    (own_pictures / "red" / "more").symlink_to(tmp_path / "elsewhere")
    dataset = open_dataset(str(own_pictures))
    assert len(dataset.training) + len(dataset.held_out) == 48
    (own_pictures / "red" / "again").symlink_to(own_pictures / "red")
    with pytest.raises(BadInputError, match=r"again: the same folder as .*/red, which is read already; "):
        open_dataset(str(own_pictures))


def test_a_picture_whose_name_begins_with_two_lines_is_a_picture(own_pictures):
    (own_pictures / "red" / "00.jpg").rename(own_pictures / "red" / "__00.jpg")
    dataset = open_dataset(str(own_pictures))
    assert "red/__00.jpg" in {*dataset.training.keys, *dataset.held_out.keys}
