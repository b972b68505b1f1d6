"""WebDataset: shards named in any way are the data set they were made of, read in any order from any thread."""

import gc
import json
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from alike import PIXEL, assert_alike, labelled, write_class_folders
from tars import CLASSES, sample, shard, tar, write_shards

from alexnet.data.layouts import webdataset as layout
from alexnet.data.layouts.folders import read_folders
from alexnet.data.layouts.webdataset import looks_like_webdataset, read_webdataset
from alexnet.runtime.errors import BadInputError


@pytest.fixture
def rows(pictures):
    return {"train": labelled(pictures, 2), "val": labelled(pictures, 3)}


@pytest.fixture
def folders(rows, tmp_path):
    return read_folders(write_class_folders(tmp_path / "folders", **rows))


@pytest.mark.parametrize(
    ("training", "held_out", "source"),
    [
        ("imagenet-train-{:06}.tar", "imagenet-val-{:06}.tar", ""),
        ("imagenet1k-train-{:04}.tar", "imagenet1k-validation-{:02}.tar", ""),
        ("train/{:06}.tar", "val/{:06}.tar", ""),
        ("training/{}.tar", "Test/{}.tar", ""),
        ("data/train-{}.tar", "data/valid-{}.tar", ""),
        ("train-{:06}.tar", "val-{:06}.tar", "{train-{000000..000003},val-{000000..000002}}.tar"),
        ("train/{}.tar", "test/{}.tar", "{train/{0..3},test/{0..2}}.tar"),
    ],
)
def test_shards_are_the_class_folders_they_were_made_of(tmp_path, rows, folders, training, held_out, source):
    root = tmp_path / "shards"
    write_shards(root, training, rows["train"])
    write_shards(root, held_out, rows["val"])
    (root / "classes.json").write_text(json.dumps(CLASSES))
    (root / "nshards.txt").write_text("4")
    place = f"{root}/{source}"
    assert looks_like_webdataset(place)
    dataset = read_webdataset(place)
    assert_alike(dataset, folders)
    assert dataset.notices == ()
    shard = training.format(1)
    assert dataset.training.keys[7] == f"{shard.rpartition('/')[2]}/00007"
    assert dataset.training.name(7) == f"{root}/{shard}/00007"


def test_a_single_shard_is_divided_and_numbers_are_its_classes(tmp_path):
    file = shard(tmp_path / "any.tar", *[0, 1, 2] * 5)
    for source in (file, tmp_path, tmp_path / "an{y,y}.tar"):
        dataset = read_webdataset(str(source))
        assert dataset.classes == ("0", "1", "2")
        assert np.bincount(dataset.training.labels).tolist() == [4, 4, 4]
        assert sorted(dataset.held_out.labels.tolist()) == [0, 1, 2]
    literal = shard(tmp_path / "{0..9}.tar", *[1, 0] * 5)
    assert read_webdataset(str(literal)).classes == ("0", "1"), "a file of that very name comes first"


def test_a_shard_beside_the_current_folder_is_read(tmp_path, monkeypatch):
    shard(tmp_path / "train-0.tar", *[0, 1] * 5)
    monkeypatch.chdir(tmp_path)
    for source in ("train-0.tar", "train-{0..0}.tar", ".", "./"):
        assert looks_like_webdataset(source)
        part = read_webdataset(source).training
        assert part.pixels(0).shape == (4, 4, 3) and part.name(0) == f"./{part.keys[0]}"


def label_of(tmp_path, *members):
    file = tar(tmp_path / "x.tar", *members, *sample("q", 0), *sample("r", 0), *sample("s", 1), *sample("t", 1))
    dataset = read_webdataset(str(file))
    keys = dataset.training.keys + dataset.held_out.keys
    labels = np.concatenate([dataset.training.labels, dataset.held_out.labels])
    return {key.partition("/")[2]: int(label) for key, label in zip(keys, labels, strict=True) if key[-1] not in "qrst"}


@pytest.mark.parametrize(
    ("label", "content"),
    [
        ("a.cls", b" 1\n"),
        ("a.cls", b"0001"),
        ("a.CLS", b"1"),
        ("a.target.cls", b"1"),
        ("a.json", b'{"label": 1, "cls": 0}'),
        ("a.json", b'{"label": "bee", "cls": 1}'),
        ("a.json", b'{"file": "x.jpg", "class_id": 1, "cls": null}'),
        ("a.meta.json", b'{"cls": 1}'),
    ],
)
@pytest.mark.parametrize("picture", ["a.png", "a.PNG", "a.jpg", "a.jpeg", "a.webp", "a.bmp", "a.gif", "a.input.png"])
def test_a_sample_has_its_label_beside_its_picture(tmp_path, label, content, picture):
    assert label_of(tmp_path, (picture, PIXEL), (label, content)) == {"a": 1}
    assert label_of(tmp_path, (label, content), (picture, PIXEL)) == {"a": 1}, "in any order"


def test_members_are_one_sample_up_to_the_first_dot_of_the_last_part(tmp_path):
    members = [
        ("./v1.0/a.png", PIXEL),
        ("v1.0/a.cls", b"1"),
        ("v1.0/b.input.png", PIXEL),
        ("v1.0/b.seg.map.cls", b"1"),
        ("c.png", PIXEL),
        ("c.mask.png", b"not the picture"),
        ("c.cls", b"1"),
        ("c.other.cls", b"0"),
        ("c.json", b"no JSON, and not asked for"),
        ("c.txt", b"a caption"),
        ("README", b"no ending, no sample"),
        (".DS_Store", b""),
        ("v1.0/._a.png", b""),
        ("__MACOSX/a.png", b""),
    ]
    assert label_of(tmp_path, *members) == {"v1.0/a": 1, "v1.0/b": 1, "c": 1}


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("classes.json", b'["ant", "bee"]'),
        ("classnames.txt", b"ant\nbee\n"),
        ("classes.txt", b"ant\r\nbee\r\n\r\n"),
    ],
)
def test_class_names_lie_beside_the_shards(tmp_path, file, content):
    shard(tmp_path / "train/0.tar", *[0, 1] * 5)
    shard(tmp_path / "test/0.tar", 1, 0)
    for place in (tmp_path, tmp_path / "train"):
        (place / file).write_bytes(content)
        for source in (tmp_path, tmp_path / "{train,test}/0.tar"):
            dataset = read_webdataset(str(source))
            assert dataset.classes == ("ant", "bee") and dataset.held_out.labels.tolist() == [1, 0]
        (place / file).unlink()
    assert read_webdataset(str(tmp_path)).classes == ("0", "1")


def test_classes_of_one_name_are_told_apart_by_their_numbers(tmp_path):
    """ImageNet has two cranes."""
    shard(tmp_path / "train/0.tar", *[0, 1, 2] * 5)
    (tmp_path / "classes.txt").write_text("crane\nmouse\ncrane\n")
    assert read_webdataset(str(tmp_path)).classes == ("crane (0)", "mouse", "crane (2)")


def test_splits_that_are_not_used_are_told(tmp_path):
    for name in ("train-0", "val-0", "test-0"):
        shard(tmp_path / f"{name}.tar", *[0, 1] * 2)
    tar(tmp_path / "extra.tar", ("nothing.txt", b""))
    dataset = read_webdataset(str(tmp_path))
    assert (len(dataset.training), len(dataset.held_out)) == (4, 4)
    assert dataset.judged_by == "the val split"
    test, extra = dataset.notices
    assert "test" in test and "extra.tar" in extra


def open_files(root):
    links = (os.path.join("/proc/self/fd", number) for number in os.listdir("/proc/self/fd"))
    return [link for link in links if os.path.islink(link) and os.readlink(link).startswith(str(root))]


def test_many_threads_read_shards_of_which_few_stay_open(tmp_path, rows, folders, monkeypatch):
    monkeypatch.setattr(layout, "OPEN", 2)
    root = tmp_path / "shards"
    write_shards(root, "train-{:02}.tar", rows["train"], each=1)
    write_shards(root, "val-{:02}.tar", rows["val"], each=1)
    dataset = read_webdataset(str(root))
    assert open_files(root) == []
    order = np.random.default_rng(0).integers(0, len(dataset.training), 200).tolist()
    with ThreadPoolExecutor(8) as pool:
        for number, pixels in zip(order, pool.map(dataset.training.pixels, order), strict=True):
            np.testing.assert_array_equal(pixels, folders.training.pixels(number))
    assert 1 <= len(open_files(root)) <= 2
    del dataset
    gc.collect()
    assert open_files(root) == []


def test_a_picture_that_is_damaged_or_cut_off_is_named_when_it_is_read(tmp_path):
    file = tar(tmp_path / "train.tar", *sample("a", 0), *sample("b", 0, b"garbage"), *sample("c", 1), *sample("d", 1))
    shard(tmp_path / "val.tar", 0, 1)
    part = read_webdataset(str(tmp_path)).training
    with pytest.raises(BadInputError, match=r"train\.tar/b: not a JPEG"):
        part.pixels(1)
    assert part.pixels(3).shape == (4, 4, 3)
    os.truncate(file, 3000)
    with pytest.raises(BadInputError, match=r"train\.tar/d: .*cut short"):
        part.pixels(3)
