"""A store: the paper's squares, kept so that others can read them too, the same bytes however it came about."""

import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from storing import KINDS, SIDE, contents, made, opened, quiet

from alexnet.data import making
from alexnet.data.decode import square
from alexnet.data.preparation import Preparation
from alexnet.data.prepare import prepare
from alexnet.data.sources import open_dataset
from alexnet.data.squares import Squares
from alexnet.data.statistics import Statistics, Sums, statistics
from alexnet.data.store import read_manifest
from alexnet.runtime.shelf import Shelf
from company import context

SHARED = Path(__file__).parents[3] / "shared" / "data"


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
        made(pictures, store, kind)
        assert contents(store) == contents(tmp_path / "whole")


def preparing(said, source, store, kind):
    """In a process of its own: says how far it is."""
    making.SHARD = {"jpeg": 10, "pixels": 10}
    dataset = open_dataset(source)
    Sums.of(square(dataset.training.pixels(0), 64)[None])  # the kernels are read from their cache
    said.send("ready")
    prepare(dataset, Path(store), Preparation(kind, 64), lambda done, total: said.send(done))


KILLS = 20


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_twenty_random_moments_it_ends_with_the_same_bytes(tmp_path, kind):
    random = np.random.default_rng(3)
    for name in ("a", "b"):
        (tmp_path / "source" / name).mkdir(parents=True)
        for number in range(100):
            pixels = random.integers(0, 256, (90, 120, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "source" / name / f"{number}.png")

    def ended(store, told=10**6, after=0.0):
        """Prepare into `store`, killed so many seconds after progress was told so often; the exit code."""
        heard, said = context.Pipe(duplex=False)
        process = context.Process(target=preparing, args=(said, str(tmp_path / "source"), str(store), kind))
        process.start()
        said.close()
        assert heard.recv() == "ready"
        with suppress(EOFError):
            while told:
                heard.recv()
                told -= 1
        time.sleep(after)
        if not told:
            process.kill()
        process.join()
        return process.exitcode

    assert ended(tmp_path / "whole") == 0
    store, reached = tmp_path / "killed", []
    while len(reached) < KILLS:
        code = ended(store, random.integers(0, 30), random.uniform(0, 0.02))
        if code == -signal.SIGKILL:
            reached.append(len(list(store.glob("parts/*"))))
        else:
            assert code == 0
            shutil.rmtree(store)
    assert len(set(reached)) > 4, "killed at many places"
    assert ended(store) == 0 and contents(store) == contents(tmp_path / "whole")


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
