"""ILSVRC-2012's archives: the same data set as class folders of the same pictures, or one line that tells why not."""

import gzip
import re
import shutil
import sys
import tarfile

import numpy as np
import pytest
from miniature import (
    ANSWERS,
    CLASSES,
    HELD_OUT,
    KIT,
    KIT_TAR,
    SORTED,
    SYNSETS,
    TRAIN_TAR,
    TRAINING,
    VAL_TAR,
    VALIDATION,
    answers,
    assert_same,
    kit,
    meta,
    picture,
    tar_of,
    train_tar,
    val_tar,
    validation_name,
    write_archives,
    write_files,
    write_folders,
)

from alexnet.data.layouts.folders import read_folders
from alexnet.data.layouts.ilsvrc import looks_like_ilsvrc, read_ilsvrc
from alexnet.data.pictures import check_learnable
from alexnet.runtime.errors import BadInputError, MachineError


@pytest.fixture
def archives(tmp_path):
    return write_archives(tmp_path / "archives")


@pytest.fixture
def folders(tmp_path):
    return read_folders(write_folders(tmp_path / "folders"))


def refusal(path):
    with pytest.raises(BadInputError) as told:
        check_learnable(read_ilsvrc(path))
    message = str(told.value)
    assert "\n" not in message and "; " in message and message.startswith(str(path))
    return message


def test_the_archives_are_the_same_data_set_as_class_folders(archives, folders):
    assert looks_like_ilsvrc(archives)
    dataset = read_ilsvrc(archives)
    assert_same(dataset, folders)
    assert dataset.found == "ILSVRC-2012's own archives, 4 classes"
    assert dataset.judged_by == "the validation images, labelled by the development kit"
    assert not dataset.divided_here and dataset.reflects


def test_the_kits_numbers_are_not_the_class_numbers(archives):
    """The trap: taken as class numbers, the ground truth's lines would label most pictures wrongly."""
    judged = read_ilsvrc(archives).held_out
    taken_as_they_are = dict(zip(HELD_OUT, (int(line) - 1 for line in answers().split()), strict=True))
    truth = dict(zip(HELD_OUT, VALIDATION, strict=True))
    wrong = 0
    for label, key in zip(judged.labels, judged.keys, strict=True):
        name, file = key.split("/")
        assert SORTED[label] == name == truth[file]
        wrong += label != taken_as_they_are[file]
    assert CLASSES != SORTED and wrong == 6, "so that this test can fail"


def test_keys_are_those_of_class_folders_in_the_order_of_class_and_name(archives):
    dataset = read_ilsvrc(archives)
    assert dataset.training.keys[-2:] == ["n02119789/n02119789_10026.JPEG", "n02119789/n02119789_9.JPEG"]
    assert dataset.held_out.keys[:3] == [
        "n01440764/ILSVRC2012_val_00000002.JPEG",
        "n01440764/ILSVRC2012_val_00000006.JPEG",
        "n02100735/ILSVRC2012_val_00000005.JPEG",
    ]


def test_the_kit_may_be_unpacked_and_names_be_in_any_case(archives, folders):
    (archives / KIT_TAR).unlink()
    write_files(archives, kit())
    assert_same(read_ilsvrc(archives), folders)
    for name in (TRAIN_TAR, VAL_TAR, KIT):
        (archives / name).rename(archives / name.swapcase())
    assert looks_like_ilsvrc(archives)
    assert_same(read_ilsvrc(archives), folders)
    shutil.rmtree(archives / KIT.swapcase())
    (archives / f"{KIT}.TAR").write_bytes(tar_of({f"./{name}": content for name, content in kit().items()}))
    assert_same(read_ilsvrc(archives), folders)


def test_training_pictures_alone_are_divided_as_class_folders_are(tmp_path):
    write_files(tmp_path / "archives", {TRAIN_TAR: train_tar()})
    write_folders(tmp_path / "folders")
    shutil.rmtree(tmp_path / "folders" / "val")
    assert looks_like_ilsvrc(tmp_path / "archives")
    dataset = read_ilsvrc(tmp_path / "archives")
    assert_same(dataset, read_folders(tmp_path / "folders"))
    assert dataset.divided_here and dataset.judged_by.startswith("a held-out share")


def test_validation_pictures_alone_are_judged_with_the_kits_classes(tmp_path, folders):
    write_files(tmp_path / "archives", {VAL_TAR: val_tar(), KIT_TAR: tar_of(kit(), "w:gz")})
    assert looks_like_ilsvrc(tmp_path / "archives")
    dataset = read_ilsvrc(tmp_path / "archives")
    assert dataset.classes == SORTED
    assert len(dataset.training) == 0 and dataset.training.labels.dtype == np.int64
    assert list(dataset.held_out.keys) == list(folders.held_out.keys)
    assert dataset.held_out.labels.tolist() == folders.held_out.labels.tolist()


def test_other_folders_are_not_taken_for_the_archives(tmp_path):
    write_files(tmp_path, {"ILSVRC2012_img_test.tar": b"", KIT_TAR: b"", f"deeper/{TRAIN_TAR}": b"", "file": b""})
    assert not looks_like_ilsvrc(tmp_path) and not looks_like_ilsvrc(tmp_path / "file")
    assert not looks_like_ilsvrc(tmp_path / "nowhere")


def test_nothing_is_written(archives, largest_file):
    before = {path: path.stat().st_mtime_ns for path in archives.parent.rglob("*")}
    with largest_file(0):
        dataset = read_ilsvrc(archives)
        for part in (dataset.training, dataset.held_out):
            assert all(part.pixels(number).shape == (9, 12, 3) for number in range(len(part)))
    assert {path: path.stat().st_mtime_ns for path in archives.parent.rglob("*")} == before


def test_what_is_no_picture_or_hidden_is_passed_over(archives, folders):
    more = {"n02119789/readme.txt": b"text", "._n02119789_9.JPEG": b"hidden", "Thumbs.db": b""}
    training = {name: files | more for name, files in TRAINING.items()}
    write_files(archives, {TRAIN_TAR: train_tar(training), VAL_TAR: val_tar(HELD_OUT | more)})
    assert_same(read_ilsvrc(archives), folders)


def test_a_missing_kit_is_named_with_what_to_fetch(archives):
    (archives / KIT_TAR).unlink()
    message = refusal(archives)
    assert message.startswith(f"{archives / VAL_TAR}: ") and KIT_TAR in message and "fetch" in message


def test_without_scipy_the_package_is_named(archives, monkeypatch):
    for name in ("scipy", "scipy.io"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MachineError, match=r"^scipy: needed .*; pip install 'alexnet\[ilsvrc\]'$"):
        read_ilsvrc(archives)
    (archives / VAL_TAR).unlink()
    assert len(read_ilsvrc(archives).classes) == 4, "the training pictures need none of it"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (answers(VALIDATION[:-1]), 7),
        (answers(VALIDATION[:2]), 3),
        (b"", 1),
        (answers((*VALIDATION, "n02119789")), 8),
        (answers().replace(b"4", b"5"), 1),
        (answers().replace(b"2", b"0"), 5),
        (answers().replace(b"3", b"x", 1), 2),
        (answers().replace(b"3", b"3.0", 1), 2),
        (answers().replace(b"3", b"\xd9\xa3", 1), 2),
        (answers().replace(b"3", b"-3", 1), 2),
        (answers().replace(b"3", b"3" * 5000, 1), 2),
        (answers().replace(b"3", b"", 1), 2),
    ],
)
def test_a_ground_truth_that_does_not_fit_is_named_by_its_line(archives, content, line):
    (archives / KIT_TAR).write_bytes(tar_of(kit(**{ANSWERS: content}), "w:gz"))
    place = f"{archives / KIT_TAR}: data/ILSVRC2012_validation_ground_truth.txt: line {line}: "
    assert refusal(archives).startswith(place)


def test_lines_may_end_as_on_windows(archives, folders):
    (archives / KIT_TAR).write_bytes(tar_of(kit(**{ANSWERS: answers().replace(b"\n", b"\r\n")}), "w:gz"))
    assert_same(read_ilsvrc(archives), folders)


def test_a_validation_picture_that_is_missing_moves_no_label(archives):
    (archives / VAL_TAR).write_bytes(val_tar({name: HELD_OUT[name] for name in HELD_OUT if "3.J" not in name}))
    (archives / KIT_TAR).write_bytes(tar_of(kit(**{ANSWERS: answers(VALIDATION[:6])}), "w:gz"))
    assert "line 7: missing" in refusal(archives), "as many lines as pictures, and yet they do not belong together"


@pytest.mark.parametrize(
    ("pictures", "fault"),
    [
        ({"holiday.jpg": b""}, "holiday.jpg: is not called as a validation image"),
        ({"val/ILSVRC2012_val_00000001.JPEG": b""}, "val/ILSVRC2012_val_00000001.JPEG: is not called"),
        ({"ILSVRC2012_val_00000001.jpg": b""}, "ILSVRC2012_val_00000001.jpg: has the number of another image"),
        ({validation_name(0): b""}, "line 0: missing"),
    ],
)
def test_what_is_no_validation_picture_is_named(archives, pictures, fault):
    (archives / VAL_TAR).write_bytes(val_tar(HELD_OUT | pictures))
    assert fault in refusal(archives)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (meta((*CLASSES[:3], "n09999999")), "class n02110185 is not in"),
        (meta(first=3), "not numbered from 1 on"),
        (meta((*CLASSES[:3], CLASSES[0])), "not numbered from 1 on"),
        (meta((), ()), ""),
        (b"", ""),
        (b"MATLAB 5.0 MAT-file".ljust(500, b" "), ""),
        (meta()[:300], ""),
        (None, "missing"),
    ],
)
def test_a_table_of_classes_that_does_not_fit_is_named(archives, content, fault):
    (archives / KIT_TAR).write_bytes(tar_of(kit(**{SYNSETS: content}), "w:gz"))
    message = refusal(archives)
    assert fault in message and (KIT_TAR in message)
    assert "data/meta.mat" in message or TRAIN_TAR in message


def test_a_class_that_the_kit_has_beyond_the_training_tar_is_named_and_the_other_way_round(archives):
    fewer = {name: files for name, files in TRAINING.items() if name != "n02100735"}
    (archives / TRAIN_TAR).write_bytes(train_tar(fewer))
    assert refusal(archives).startswith(f"{archives / KIT_TAR}: class n02100735 is not in {archives / TRAIN_TAR}")
    more = TRAINING | {"n01443537": {"n01443537_2.JPEG": picture(1)}}
    (archives / TRAIN_TAR).write_bytes(train_tar(more))
    assert refusal(archives).startswith(f"{archives / TRAIN_TAR}: class n01443537 is not in {archives / KIT_TAR}")


def test_a_damaged_kit_is_named(archives):
    file = archives / KIT_TAR
    whole = file.read_bytes()
    for content in (b"", b"no archive", whole[: len(whole) // 2], gzip.compress(b"no tar"), tar_of(kit())):
        file.write_bytes(content)
        assert refusal(archives).startswith(f"{file}: ")
    file.unlink()
    write_files(archives, kit())
    (archives / ANSWERS).unlink()
    assert refusal(archives).startswith(f"{archives / ANSWERS}: ")


def test_a_link_in_the_kit_is_not_followed(archives, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(answers())
    file = archives / KIT_TAR
    with tarfile.open(file, "w:gz") as tar:
        link = tarfile.TarInfo(ANSWERS)
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        tar.addfile(link)
    assert "missing" in refusal(archives)


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ({"n01440764_1.JPEG": b"x"}, "n01440764_1.JPEG: is not the tar file of a class"),
        ({"train/n01440764.tar": tar_of({})}, "train/n01440764.tar: is not the tar file of a class"),
        ({"a.tar": tar_of({}), "b.tar": tar_of({"1.jpg": b""})}, "class a has no pictures"),
        ({"a.tar": tar_of({"1.jpg": b""})}, "has 1 class"),
        ({}, "has 0 class"),
        ({"a.tar": tar_of({"1.jpg": b""}), "b.tar": b"text" * 200}, "b.tar: is no tar file"),
        ({"a.tar": tar_of({"../1.jpg": b""})}, "a.tar: ../1.jpg: has a name with .."),
    ],
)
def test_a_training_tar_that_is_none_is_refused(tmp_path, files, fault):
    write_files(tmp_path, {TRAIN_TAR: tar_of(files)})
    assert re.match(rf"{re.escape(str(tmp_path / TRAIN_TAR))}: {re.escape(fault)}", refusal(tmp_path))


def test_archives_that_were_cut_short_or_hold_nothing_are_refused(archives):
    for name in (TRAIN_TAR, VAL_TAR):
        whole = (archives / name).read_bytes()
        (archives / name).write_bytes(whole[: len(whole) // 3])
        assert refusal(archives).startswith(f"{archives / name}: ")
        (archives / name).write_bytes(whole)
    (archives / VAL_TAR).write_bytes(val_tar({"readme.txt": b"about"}))
    assert refusal(archives).startswith(f"{archives / VAL_TAR}: has no images in it; ")


def test_a_damaged_picture_is_named_with_its_archives_when_it_is_read(archives):
    training = TRAINING | {"n02100735": {"n02100735_7.JPEG": b"damaged", "n02100735_8.JPEG": picture(8)}}
    write_files(archives, {TRAIN_TAR: train_tar(training), VAL_TAR: val_tar(HELD_OUT | {validation_name(2): b""})})
    dataset = read_ilsvrc(archives)
    number = dataset.training.keys.index("n02100735/n02100735_7.JPEG")
    with pytest.raises(BadInputError, match=rf"^{archives / TRAIN_TAR}: n02100735\.tar: n02100735_7\.JPEG: "):
        dataset.training.pixels(number)
    with pytest.raises(BadInputError, match=rf"^{archives / VAL_TAR}: ILSVRC2012_val_00000002\.JPEG: "):
        dataset.held_out.pixels(0)
    assert dataset.held_out.name(0) == f"{archives / VAL_TAR}: n01440764/ILSVRC2012_val_00000002.JPEG"
