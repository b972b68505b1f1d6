"""A store on the disk: what others find in it, and what happens when it is damaged, far away or very large."""

import json
import shutil
import tarfile
import time
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image
from storing import KINDS, SIDE, made, opened, quiet

from alexnet.data.augment import Images, drawn, order
from alexnet.data.sources import open_dataset
from alexnet.data.statistics import Statistics
from alexnet.data.store import file_digest, own_digest, verify
from alexnet.runtime.errors import BadInputError, MachineError
from alexnet.runtime.shelf import Shelf


def test_the_shards_are_ordinary_tars_and_arrays(stores):
    with tarfile.open(stores["jpeg"] / "train-000000.tar") as tar:
        names = tar.getnames()
        assert names[:3] == ["00000000.jpg", "00000000.cls", "00000001.jpg"]
        store = opened(stores["jpeg"])
        for number in (0, 5):
            assert int(tar.extractfile(f"{number:08}.cls").read()) == store.training.labels[number]
            found = np.asarray(Image.open(tar.extractfile(f"{number:08}.jpg")))
            np.testing.assert_array_equal(found, store.training.pixels(number))
        member = tar.getmember("00000000.jpg")
        assert (member.mtime, member.uid, member.uname) == (0, 0, "")
    array = np.load(stores["pixels"] / "train-000000.npy", mmap_mode="r")
    store = opened(stores["pixels"])
    assert array.shape == (len(store.training), SIDE, SIDE, 3)
    np.testing.assert_array_equal(array[4], store.training.pixels(4))


@pytest.mark.parametrize("kind", KINDS)
def test_every_reading_checks_not_only_the_first(stores, tmp_path, kind):
    store = Path(shutil.copytree(stores[kind], tmp_path / "store"))
    training = opened(store).training
    training.pixels(3)
    offset = int(np.load(store / "train.index.npy")[3]["offset"])
    with next(store.glob("train-000000.*")).open("r+b") as shard:
        shard.seek(offset + 9)
        byte = shard.read(1)[0]
        shard.seek(offset + 9)
        shard.write(bytes([byte ^ 1]))
    with pytest.raises(BadInputError, match="damaged record"):
        training.pixels(3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_byte_of_a_record_is_found_and_named(stores, tmp_path, kind):
    random = np.random.default_rng(8)
    store = Path(shutil.copytree(stores[kind], tmp_path / "store"))
    shard = next(store.glob("train-000000.*"))
    whole = shard.read_bytes()
    assert verify(Shelf(str(store)), quiet) == 36
    index = np.load(store / "train.index.npy")
    for _ in range(20):
        row = random.integers(len(index))
        place = int(index[row]["offset"]) + int(random.integers(int(index[row]["size"])))
        shard.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        data = opened(store)
        with pytest.raises(
            BadInputError, match=f"^{shard}: {data.training.keys[row]}: damaged record; remove the store, "
        ):
            data.training.pixels(int(row))
        with pytest.raises(BadInputError, match=f"^{shard}: .*: damaged record"):
            verify(Shelf(str(store)), quiet)
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInputError, match=f"^{shard}: .*: damaged record"):
        verify(Shelf(str(store)), quiet)
    shard.unlink()
    with pytest.raises(BadInputError, match=f"^{shard}: missing; remove the store, and prepare it again"):
        verify(Shelf(str(store)), quiet)


@pytest.mark.parametrize("name", ["classes.json", "train.index.npy", "val.keys.jsonl", "statistics.safetensors"])
def test_a_damaged_small_file_is_found_when_the_store_is_opened(stores, tmp_path, name):
    store = Path(shutil.copytree(stores["pixels"], tmp_path / "store"))
    content = (store / name).read_bytes()
    (store / name).write_bytes(content[:-2] + b"?\n")
    with pytest.raises(BadInputError, match=f"^{store / name}: damaged"):
        opened(store)
    (store / name).unlink()
    with pytest.raises(BadInputError, match=f"^{store / name}: cannot be read"):
        opened(store)
    (store / "store.json").write_text("{")
    with pytest.raises(BadInputError, match=f"^{store / 'store.json'}: cannot be read"):
        opened(store)
    (store / "store.json").write_text('{"format": 99}')
    with pytest.raises(BadInputError, match="written by another version"):
        opened(store)


def test_a_manifest_in_which_anything_was_changed_is_not_believed(stores, tmp_path):
    store = Path(shutil.copytree(stores["jpeg"], tmp_path / "store"))
    whole = (store / "store.json").read_text()
    for word, other in (
        ('"side": 32', '"side": 12'),
        ('"jpeg"', '"jpef"'),
        ('"shards"', '"sharts"'),
        ("cropped", "crooped"),
    ):
        assert word in whole
        (store / "store.json").write_text(whole.replace(word, other))
        with pytest.raises(BadInputError, match=f"^{store}/store.json: damaged .*; remove the store, and prepare it"):
            opened(store)


def test_damage_to_what_was_fetched_is_told_with_its_remedy(stores, tmp_path, monkeypatch):
    monkeypatch.setenv("ALEXNET_CACHE", str(tmp_path / "cache"))
    dataset = open_dataset(f"file://{stores['jpeg']}")
    dataset.training.pixels(0)
    shard = next((tmp_path / "cache").rglob("train-000000.tar"))
    shard.write_bytes(shard.read_bytes()[:600])
    with pytest.raises(BadInputError, match=f"^{shard}: .*: damaged record; remove it, to fetch it anew"):
        open_dataset(f"file://{stores['jpeg']}").training.pixels(7)


def test_a_shard_that_cannot_be_read_is_named(stores, tmp_path):
    store = Path(shutil.copytree(stores["pixels"], tmp_path / "store"))
    (store / "train-000000.npy").unlink()
    (store / "train-000000.npy").mkdir()
    with pytest.raises(MachineError, match=f"^{store}/train-000000.npy: .+: cannot be read: Is a directory"):
        opened(store).training.pixels(0)


def test_what_was_left_out_is_told_whenever_the_store_is_opened(own_pictures, tmp_path):
    (own_pictures / "red" / "02.jpg").write_bytes(b"")
    made(own_pictures, tmp_path / "store", skip=1)
    assert opened(tmp_path / "store").notices == ("left out when the store was made, since they are damaged: 1",)


def test_verifying_what_is_no_store_says_so(pictures):
    with pytest.raises(BadInputError, match=f"^{pictures}: holds no store; "):
        verify(Shelf(str(pictures)), quiet)


def test_a_store_behind_an_address_is_fetched_file_by_file(stores, tmp_path, monkeypatch):
    monkeypatch.setenv("ALEXNET_CACHE", str(tmp_path / "cache"))
    memory = fsspec.filesystem("memory")
    memory.put(f"{stores['jpeg']}/", "/bucket/store", recursive=True)
    dataset = open_dataset("memory://bucket/store")

    def cached():
        return {file.name for file in (tmp_path / "cache").rglob("*") if file.is_file()}

    assert "train-000000.tar" not in cached()
    here = opened(stores["jpeg"])
    np.testing.assert_array_equal(dataset.training.pixels(3), here.training.pixels(3))
    assert "train-000000.tar" in cached() and "val-000000.tar" not in cached() and dataset.digest == here.digest
    memory.rm("/bucket/store/val-000000.tar")
    with pytest.raises(BadInputError, match=r"^memory://bucket/store/val-000000.tar: cannot be fetched"):
        dataset.held_out.pixels(0)
    with pytest.raises(BadInputError, match=r"^memory://bucket/nothing: no store and no .tar shards there"):
        open_dataset("memory://bucket/nothing")


def test_a_store_of_a_million_pictures_opens_at_once(stores, tmp_path):
    count = 1_281_167
    store = Path(shutil.copytree(stores["pixels"], tmp_path / "store"))
    index = np.zeros(count, np.load(store / "train.index.npy").dtype)
    index["label"] = np.arange(count) % 3
    np.save(store / "train.index.npy", index)
    (store / "train.keys.jsonl").write_text("".join(f'"n0144/n0144_{n}.JPEG"\n' for n in range(count)))
    manifest = json.loads((store / "store.json").read_text())
    for name in ("train.index.npy", "train.keys.jsonl"):
        manifest["sha256"][name] = file_digest(Shelf(str(store)), name)
    (store / "store.json").write_text(json.dumps(manifest | {"digest": own_digest(manifest)}))
    started = time.process_time()
    dataset = opened(store)
    first = order(Images(), 0, 0, len(dataset.training))[:128]
    drawn(Images(colour="eigenvalue"), Statistics.read(dataset.statistics), 0, 0, len(dataset.training))
    assert time.process_time() - started < 4  # processor time: a bound that a busy machine does not break
    assert len(np.unique(first)) == 128 and dataset.training.keys[count - 1] == f"n0144/n0144_{count - 1}.JPEG"
