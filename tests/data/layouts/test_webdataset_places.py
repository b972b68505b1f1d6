"""WebDataset: what is recognized as shards, what lies behind an address, and our own stores read by others."""

import shutil

import fsspec
import numpy as np
import pytest
from alike import PIXEL, assert_alike
from tars import refusal, sample, shard, tar

from alexnet.data.layouts.folders import read_folders
from alexnet.data.layouts.webdataset import looks_like_webdataset, read_webdataset
from alexnet.data.preparation import Preparation
from alexnet.data.prepare import prepare
from alexnet.data.sources import open_dataset
from alexnet.data.store import open_store
from alexnet.runtime.shelf import Shelf

LABELS = [0, 1] * 5


def class_folders(root, *names):
    for name in names:
        (root / name).mkdir(parents=True)
        (root / name / "0.png").write_bytes(PIXEL)
    return root


def test_what_names_tars_or_has_some_in_it_is_recognized(tmp_path):
    for name in ("one/x.tar", "more/train-000000.tar", "logged/train-0.tar", "split/train/0.tar", "split/val/0.tar"):
        shard(tmp_path / name, *LABELS)
    shard(tmp_path / "hub/data/x.tar", *LABELS)
    (tmp_path / "logged/logs").mkdir()
    (tmp_path / "split/.cache").mkdir()
    for name in (
        "one",
        "one/x.tar",
        "more",
        "logged",
        "split",
        "hub",
        "more/train-{000000..000009}.tar",
        "no/{0,1}.tar",
    ):
        assert looks_like_webdataset(str(tmp_path / name)), name
    assert looks_like_webdataset("https://example.org/train-{0000..0009}.tar")
    (tmp_path / "split/train/0.tar").write_bytes(b"damaged")
    assert looks_like_webdataset(str(tmp_path / "split")), "so that the damage is named"


def test_what_is_something_else_is_not_taken_for_shards(tmp_path):
    pictures = tar(tmp_path / "pictures", ("cat/0.png", PIXEL), ("dog/0.png", PIXEL))
    places = {
        "ilsvrc": ["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "other.tar"],
        "classes": ["n01440764.tar", "n01443537.tar"],
        "kept": ["train.tar", "train/cat/0.png", "train/dog/0.png", "val/cat/0.png"],
        "inside": ["train/train.tar", "train/cat/0.png", "train/dog/0.png"],
        "backup": ["backup-2023.tar", "cat/0.png", "dog/0.png", "data/0.png"],
        "deep": ["cat/cat.tar", "cat/0.png", "dog/0.png"],
        "compressed": ["cifar-10-python.tar.gz", "x.tgz", "._x.tar"],
    }
    for place, files in places.items():
        for file in files:
            (tmp_path / place / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(pictures, tmp_path / place / file)
    (tmp_path / "empty").mkdir()
    for place in (*places, "empty", "nowhere", "pictures", "ilsvrc/ILSVRC2012_img_train.tar", "classes/n01440764.tar"):
        assert not looks_like_webdataset(str(tmp_path / place)), place
    for source in ("digits", "", "x" * 5000, "hf:owner/name"):
        assert not looks_like_webdataset(source)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ALEXNET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def bucket():
    """A made-up address, emptied afterwards."""
    files = fsspec.filesystem("memory")
    files.rm("/", recursive=True) if files.ls("/") else None
    yield files
    files.rm("/", recursive=True)


@pytest.mark.parametrize(
    ("training", "held_out", "source"),
    [
        ("train-0000.tar", "val-0000.tar", ""),
        ("train/0000.tar", "test/0000.tar", ""),
        ("train-0000.tar", "val-0000.tar", "/{train,val}-{0000..0000}.tar"),
    ],
)
def test_shards_behind_an_address_are_fetched_once(tmp_path, cache, bucket, training, held_out, source):
    here = tmp_path / "here"
    shard(here / training, *LABELS)
    shard(here / held_out, 1, 0, 0)
    (here / "classes.txt").write_text("ant\nbee\n")
    bucket.put(str(here), "/bucket", recursive=True)
    place = f"memory://bucket{source}"
    assert looks_like_webdataset(place)
    dataset = read_webdataset(place)
    assert_alike(dataset, read_webdataset(str(here)))
    assert dataset.digest == read_webdataset(str(here)).digest
    assert dataset.training.name(0).startswith(f"memory://bucket/{training}/")
    if source:
        bucket.rm("/bucket", recursive=True)
        assert_alike(read_webdataset(place), dataset)


def test_what_cannot_be_fetched_or_is_damaged_behind_an_address_is_named(tmp_path, cache, bucket):
    shard(tmp_path / "train-0.tar", *LABELS)
    bucket.put(str(tmp_path / "train-0.tar"), "/bucket/train-0.tar")
    place = "memory://bucket/train-{0..1}.tar"
    assert refusal(place).startswith("memory://bucket/train-1.tar: cannot be fetched")
    bucket.pipe("/bucket/train-1.tar", (tmp_path / "train-0.tar").read_bytes()[:3000])
    message = refusal(place)
    assert message.startswith(f"memory://bucket/train-1.tar (kept as {cache}/") and "cut short" in message
    bucket.pipe("/other/readme.txt", b"")
    assert not looks_like_webdataset("memory://other") and not looks_like_webdataset("memory://nowhere")
    assert "no tar shards" in refusal("memory://other")


# Their reader leaves closing its files to the garbage collector.
theirs_stay_open = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def store(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores") / "jpeg"
    prepare(open_dataset(str(pictures)), folder, Preparation("jpeg", 32), lambda done, total: None)
    return folder


def test_our_own_store_is_readable_as_shards(store):
    assert not looks_like_webdataset(str(store)), "as a store it is checked"
    dataset = read_webdataset(str(store))
    assert_alike(dataset, open_store(Shelf(str(store))))
    assert dataset.judged_by == "the val split"
    assert read_webdataset(str(store / "train-{000000..000000}.tar")).classes == dataset.classes


@theirs_stay_open
def test_the_webdataset_library_reads_our_store(store):
    webdataset = pytest.importorskip("webdataset", reason="WebDataset's own library is the judge")
    opened = open_store(Shelf(str(store)))
    for split, part in (("train", opened.training), ("val", opened.held_out)):
        shards = [str(path) for path in sorted(store.glob(f"{split}-*.tar"))]
        samples = list(webdataset.WebDataset(shards, shardshuffle=False))
        assert len(samples) == len(part)
        record = part.pixels.__self__.record
        for number, found in enumerate(samples):
            assert found["jpg"] == record(number).tobytes()
            assert int(found["cls"]) == part.labels[number]
        decoded = webdataset.WebDataset(shards, shardshuffle=False).decode("rgb8").to_tuple("jpg", "cls")
        for number, (pixels, label) in enumerate(decoded):
            assert label == part.labels[number]
            np.testing.assert_allclose(pixels.astype(int), part.pixels(number).astype(int), atol=2)


@theirs_stay_open
def test_the_webdataset_library_agrees_about_samples(tmp_path):
    webdataset = pytest.importorskip("webdataset", reason="WebDataset's own library is the judge")
    members = (*sample("b.c/x", 1), *sample("y", 0), ("z.input.png", PIXEL), ("z.cls", b" 1 "), *sample("w.v", 0))
    file = tar(tmp_path / "train.tar", *members, ("README", b"no sample"))
    shard(tmp_path / "val.tar", 0, 1)
    part = read_webdataset(str(tmp_path)).training
    theirs = list(webdataset.WebDataset([str(file)], shardshuffle=False))
    assert [f"train.tar/{found['__key__']}" for found in theirs] == part.keys
    assert [int(found.get("cls") or found["v.cls"]) for found in theirs] == part.labels.tolist()


def test_class_folders_with_an_archive_beside_them_stay_class_folders(tmp_path):
    class_folders(tmp_path / "train", "cat", "dog")
    class_folders(tmp_path / "val", "cat", "dog")
    tar(tmp_path / "train.tar", ("train/cat/0.png", PIXEL))
    assert not looks_like_webdataset(str(tmp_path))
    assert read_folders(tmp_path).classes == ("cat", "dog")
