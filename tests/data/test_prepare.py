"""A store: the paper's squares, kept so that others can read them too, the same bytes however it came about."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet.data import prepare as prepare_module
from alexnet.data.decode import square
from alexnet.data.preparation import Preparation, advised, sizes
from alexnet.data.prepare import prepare
from alexnet.data.sources import open_dataset
from alexnet.data.squares import Squares
from alexnet.data.statistics import Statistics, statistics
from alexnet.data.store import open_store, read_manifest
from alexnet.runtime.errors import BadInputError, MachineError, UsageError
from alexnet.runtime.shelf import Shelf

SIDE = 32
KINDS = ("jpeg", "pixels")
SHARED = Path(__file__).parents[3] / "shared" / "data"


def quiet(done, total):
    assert 0 <= done <= total


def made(source, store, kind="pixels", skip=0, threads=None, **options):
    return prepare(
        open_dataset(str(source)), store, Preparation(kind, **{"side": SIDE} | options), quiet, skip, threads
    )


def opened(store):
    return open_store(Shelf(str(store)))


def contents(store):
    """Every file of a store and its bytes, but for the lock."""
    return {file.name: file.read_bytes() for file in store.iterdir() if file.name != ".lock"}


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(prepare_module, "SHARD", {"jpeg": 7, "pixels": 7})


@pytest.fixture(scope="module")
def stores(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    for kind in KINDS:
        made(pictures, folder / kind, kind)
    return {kind: folder / kind for kind in KINDS}


def test_a_store_of_pixels_holds_the_squares_of_its_source_to_the_bit(pictures, stores):
    source, store = open_dataset(str(pictures)), opened(stores["pixels"])
    assert store.classes == source.classes and store.judged_by == source.judged_by and store.reflects
    for one, other in ((store.training, source.training), (store.held_out, source.held_out)):
        assert sorted(one.keys) == sorted(other.keys)
        places = {key: number for number, key in enumerate(other.keys)}
        for number, key in enumerate(one.keys):
            place = places[key]
            assert one.labels[number] == other.labels[place]
            np.testing.assert_array_equal(one.pixels(number), square(other.pixels(place), SIDE))


def test_a_store_of_jpegs_holds_them_within_what_jpeg_loses(pictures, stores):
    exact, close = opened(stores["pixels"]), opened(stores["jpeg"])
    assert list(exact.training.keys) == list(close.training.keys)
    for number in range(len(exact.training)):
        apart = np.abs(exact.training.pixels(number).astype(int) - close.training.pixels(number))
        assert 0 < apart.mean() < 20  # speckled, so that colours at half the resolution lose most of it


def test_the_pictures_to_learn_from_are_shuffled_once_and_the_others_are_not(pictures, stores):
    store, source = opened(stores["pixels"]), open_dataset(str(pictures))
    assert list(store.training.keys) != list(source.training.keys)
    assert list(store.held_out.keys) == list(source.held_out.keys)


def test_the_statistics_are_those_of_its_training_pictures(stores):
    for store in map(opened, stores.values()):
        kept = Statistics.read(store.statistics)
        squares = np.stack([store.training.pixels(n) for n in range(len(store.training))]).astype(np.float64)
        if store.found.startswith("a store of 32 x 32 pixels"):
            np.testing.assert_allclose(kept.mean, squares.mean(0), rtol=0, atol=1e-5)
            covariance = np.cov(squares.reshape(-1, 3).T, bias=True)
            np.testing.assert_allclose(kept.eigenvalues, np.linalg.eigvalsh(covariance), rtol=1e-9)
            np.testing.assert_allclose(
                kept.eigenvectors @ np.diag(kept.eigenvalues) @ kept.eigenvectors.T, covariance, rtol=1e-9
            )


def test_training_from_a_store_is_training_from_its_source_but_for_the_order(pictures, stores):
    store, source = opened(stores["pixels"]), open_dataset(str(pictures))
    measured = statistics(Squares(source.training, SIDE, "cropped"), quiet)
    np.testing.assert_array_equal(Statistics.read(store.statistics).mean, measured.mean)


@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_threads_gives_the_same_bytes(pictures, tmp_path, kind, small_shards):
    for threads in (1, 2, 5):
        made(pictures, tmp_path / str(threads), kind, threads=threads)
    assert contents(tmp_path / "1") == contents(tmp_path / "2") == contents(tmp_path / "5")
    assert len(read_manifest(Shelf(str(tmp_path / "1")))["splits"]["train"]["shards"]) == 5


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_cut_short_anywhere_ends_with_the_same_bytes(pictures, tmp_path, kind, small_shards):
    made(pictures, tmp_path / "whole", kind)
    for stop in range(0, 36, 5):

        def progress(done, total, stop=stop):
            if done > stop:
                raise KeyboardInterrupt

        dataset, how = open_dataset(str(pictures)), Preparation(kind, SIDE)
        store = tmp_path / f"after-{stop}"
        with pytest.raises(KeyboardInterrupt):
            prepare(dataset, store, how, progress)
        assert not (store / "store.json").exists() and not list(store.glob(".*partial"))
        assert not made(pictures, store, kind).complete_already
        assert contents(store) == contents(tmp_path / "whole")


KILLED = """
import sys
from pathlib import Path
from alexnet.data import prepare as module
from alexnet.data.preparation import Preparation
from alexnet.data.prepare import prepare
from alexnet.data.sources import open_dataset
module.SHARD = {"jpeg": 10, "pixels": 10}
dataset = open_dataset(sys.argv[1])
print("ready", flush=True)
prepare(dataset, Path(sys.argv[2]), Preparation(sys.argv[3], 64), lambda done, total: None)
"""
KILLS = 20


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_twenty_random_moments_it_ends_with_the_same_bytes(tmp_path, kind):
    random = np.random.default_rng(3)
    for name in ("a", "b"):
        (tmp_path / "source" / name).mkdir(parents=True)
        for number in range(100):
            pixels = random.integers(0, 256, (90, 120, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "source" / name / f"{number}.png")

    def ended(store, after=None):
        """Prepare into `store`, killed so many seconds after it began: the exit code and how long it took."""
        command = [sys.executable, "-c", KILLED, str(tmp_path / "source"), str(store), kind]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n"
            began = time.monotonic()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(after)
            process.kill()
        return process.returncode, time.monotonic() - began

    code, needed = ended(tmp_path / "whole")
    assert code == 0
    store, reached = tmp_path / "killed", []
    while len(reached) < KILLS:
        code, _ = ended(store, random.uniform(0, needed / 4))
        if code == -signal.SIGKILL:
            reached.append(len(list(store.glob("parts/*"))))
        else:
            assert code == 0
            shutil.rmtree(store)
    assert len(set(reached)) > 4, "killed at many places"
    assert ended(store)[0] == 0 and contents(store) == contents(tmp_path / "whole")


def test_a_store_that_is_there_is_left_as_it_is_and_another_is_not_made_over_it(pictures, own_pictures, tmp_path):
    store = tmp_path / "store"
    made(pictures, store)
    before = contents(store)
    assert made(pictures, store).complete_already and contents(store) == before
    for options in ({"side": 16}, {"kind": "jpeg"}, {"shape": "squashed"}, {"filter": "area"}):
        with pytest.raises(BadInputError, match=f"^{store}: is a store of something else, or made otherwise; name"):
            made(pictures, store, **options)
    shutil.copy(own_pictures / "red" / "00.jpg", own_pictures / "red" / "99.jpg")
    with pytest.raises(BadInputError, match=f"^{store}: is a store of something else"):
        made(own_pictures, store)
    assert contents(store) == before


def test_what_a_store_that_was_killed_at_its_very_end_left_is_tidied_up(pictures, tmp_path):
    made(pictures, tmp_path / "store")
    before = contents(tmp_path / "store")
    (tmp_path / "store" / "parts").mkdir()
    (tmp_path / "store" / "plan.json").write_text("{}")
    assert made(pictures, tmp_path / "store").complete_already
    assert contents(tmp_path / "store") == before


@pytest.mark.parametrize("kind", KINDS)
def test_an_unfinished_store_is_taken_for_nothing_else(pictures, tmp_path, kind, small_shards):
    def stop(done, total):
        if done > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(open_dataset(str(pictures)), tmp_path / "store", Preparation(kind, SIDE), stop)
    with pytest.raises(BadInputError, match=f"^{tmp_path}/store: an unfinished store; the same alexnet prepare again"):
        open_dataset(str(tmp_path / "store"))


def test_a_stop_while_the_plan_is_written_hinders_nothing(pictures, tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / ".plan.json.partial").write_text("{")
    assert made(pictures, tmp_path / "store").images == 36


def test_a_damaged_plan_is_told(pictures, tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "plan.json").write_text("{")
    with pytest.raises(BadInputError, match="holds the beginning of another preparation"):
        made(pictures, tmp_path / "store")


def test_a_picture_that_was_mended_is_prepared_after_all(own_pictures, tmp_path):
    file = own_pictures / "red" / "02.jpg"
    whole = file.read_bytes()
    file.write_bytes(whole[:200])
    with pytest.raises(BadInputError, match=f"^{file}: damaged picture"):
        made(own_pictures, tmp_path / "store")
    file.write_bytes(whole)
    result = made(own_pictures, tmp_path / "store")
    assert (result.images, result.skipped) == (36, [])


def test_a_split_that_damage_has_emptied_is_no_split(own_pictures, tmp_path):
    dataset = open_dataset(str(own_pictures))
    for key in dataset.held_out.keys:
        (own_pictures / key).write_bytes(b"damaged")
    with pytest.raises(BadInputError, match="every picture of the split val is damaged; mend some"):
        made(own_pictures, tmp_path / "store", skip=6)


def test_fewer_than_no_damaged_pictures_cannot_be_left_out(pictures, tmp_path):
    with pytest.raises(UsageError, match=r"^--skip-bad: -1; is at least 0$"):
        made(pictures, tmp_path / "store", skip=-1)


def test_the_beginning_of_another_store_and_a_full_folder_are_left_alone(pictures, tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(open_dataset(str(pictures)), tmp_path / "begun", Preparation("pixels", SIDE), stop)
    with pytest.raises(BadInputError, match=r"/begun: holds the beginning of another preparation"):
        made(pictures, tmp_path / "begun", side=16)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(BadInputError, match=r"/full: is not empty and holds no store; name another folder"):
        made(pictures, tmp_path / "full")
    assert (tmp_path / "full" / "thesis.txt").read_text() == "mine"


def test_damaged_pictures_end_it_by_name_or_are_left_out_and_counted(own_pictures, tmp_path):
    bad = own_pictures / "red" / "02.jpg", own_pictures / "blue" / "03.png"
    for file in bad:
        file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(BadInputError) as told:
        made(own_pictures, tmp_path / "store", skip=1)
    assert any(str(told.value).startswith(f"{file}: damaged picture") for file in bad)
    assert "--skip-bad 2" in str(told.value) and "\n" not in str(told.value)
    result = made(own_pictures, tmp_path / "store", skip=2)
    assert (result.images, sorted(name for name, _ in result.skipped)) == (34, sorted(map(str, bad)))
    store = opened(tmp_path / "store")
    assert len(store.training) + len(store.held_out) == 34
    assert not {f"{file.parent.name}/{file.name}" for file in bad} & {*store.training.keys, *store.held_out.keys}
    lines = [json.loads(line) for line in (tmp_path / "store" / "skipped.jsonl").read_text().splitlines()]
    assert sorted(line["picture"] for line in lines) == sorted(map(str, bad))
    assert made(own_pictures, tmp_path / "store", skip=2).skipped == result.skipped


def test_sizes_are_told_and_few_pictures_are_kept_as_pixels(pictures):
    dataset = open_dataset(str(pictures))
    assert advised(dataset, 256) == "pixels"
    assert sizes(dataset, 256)["pixels"] == 36 * 256 * 256 * 3
    for options in ({"side": 0}, {"quality": 0}, {"quality": 96}, {"side": 5000}):
        with pytest.raises(UsageError):
            Preparation("jpeg", **options).check()


def test_a_full_disk_is_told_and_the_rest_is_made_later(pictures, tmp_path, largest_file):
    with largest_file(20_000), pytest.raises(MachineError, match="cannot write: file too large; "):
        made(pictures, tmp_path / "store")
    assert not (tmp_path / "store" / "store.json").exists()
    made(pictures, tmp_path / "store")
    made(pictures, tmp_path / "undisturbed")
    assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")


def test_imagenets_own_photographs_are_prepared_as_the_paper_says(tmp_path):
    source = SHARED / "imagenet-originals"
    if not source.exists():
        pytest.skip("no ImageNet photographs in ../shared/data")
    result = made(source, tmp_path / "store", side=256)
    assert (result.images, result.skipped) == (249, [])
    store = opened(tmp_path / "store")
    for part in (store.training, store.held_out):
        for number, key in enumerate(part.keys):
            with Image.open(source / key) as image:
                upright = image.convert("RGB") if image.getexif().get(274, 1) == 1 else None
            if upright is None:
                continue
            scale = 256 / min(upright.size)
            whole = upright.resize((round(upright.width * scale), round(upright.height * scale)), Image.BICUBIC)
            left, top = (whole.width - 256) // 2, (whole.height - 256) // 2
            np.testing.assert_array_equal(part.pixels(number), whole.crop((left, top, left + 256, top + 256)), key)
