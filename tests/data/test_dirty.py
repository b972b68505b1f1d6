"""Pictures as they lie about, all at once: what can be read is prepared, what cannot is named, nothing gets lost."""

import io
import json
from functools import cache

import numpy as np
import pytest
from PIL import Image

from alexnet.data.decode import decode
from alexnet.data.sources import open_dataset
from alexnet.data.store import open_store
from alexnet.runtime.shelf import Shelf

HEIGHT, WIDTH = 24, 32
WAVE = np.add.outer(np.linspace(0, 120, HEIGHT), np.linspace(0, 120, WIDTH))
PICTURE = np.stack([WAVE, WAVE[:, ::-1], 240 - WAVE], axis=2).astype(np.uint8)
ALPHA = np.dstack([PICTURE, np.full((HEIGHT, WIDTH), 255, np.uint8)])


def encoded(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def ycck():
    """An Adobe JPEG of inverted CMYK, stored as YCCK: what photographers send to printers."""
    simplejpeg = pytest.importorskip("simplejpeg", reason="writes YCCK")
    cmyk = 255 - np.asarray(Image.fromarray(PICTURE).convert("CMYK"))
    return simplejpeg.encode_jpeg(np.ascontiguousarray(cmyk), 98, "CMYK", "444")


def oriented(number):
    exif = Image.Exif()
    exif[0x0112] = number
    return encoded(Image.fromarray(PICTURE), "JPEG", exif=exif, quality=95)


def bomb(side):
    """A picture of one bit a pixel and a few kilobytes that would fill gigabytes."""
    return encoded(Image.new("1", (side, side)), "PNG", optimize=False)


@cache
def good():
    """Name and content of what must be prepared."""
    return list(_good())


def _good():
    image, grey = Image.fromarray(PICTURE), Image.fromarray(PICTURE[:, :, 0])
    deep = Image.fromarray(PICTURE[:, :, 0].astype(np.uint16) << 8)
    frames = {"save_all": True, "append_images": [Image.new("RGB", (WIDTH, HEIGHT))] * 3}
    yield "png named.JPEG", encoded(image, "PNG")
    yield "jpeg named.png", encoded(image, "JPEG")
    yield "grey.jpg", encoded(grey, "JPEG")
    yield "cmyk.jpg", encoded(image.convert("CMYK"), "JPEG")
    yield "ycck.jpg", ycck()
    yield "progressive.jpg", encoded(image, "JPEG", progressive=True)
    yield "sixteen bits.png", encoded(deep, "PNG")
    yield "one bit.png", encoded(grey.convert("1"), "PNG")
    yield "palette.png", encoded(image.convert("P"), "PNG")
    yield "alpha.png", encoded(Image.fromarray(ALPHA), "PNG")
    yield "animated.gif", encoded(image.convert("P"), "GIF", **frames)
    yield "animated.webp", encoded(image, "WEBP", **frames)
    yield "narrow.png", encoded(Image.new("RGB", (1, 900)), "PNG")
    yield "Ünïcødé 日本 🐢.jpg", encoded(image, "JPEG")
    yield "line\nbreak\x1b[31m.jpg", encoded(image, "JPEG")
    yield from ((f"turned {number}.jpg", oriented(number)) for number in range(1, 9))


@cache
def bad():
    """Name and content of what must be named."""
    return list(_bad())


def _bad():
    whole = encoded(Image.fromarray(PICTURE), "JPEG")
    yield "truncated.jpg", whole[: len(whole) // 2]
    yield "nothing.jpg", b""
    yield "one byte.jpg", b"\xff"
    yield "page.jpg", b"<!DOCTYPE html><html><body>404 not found</body></html>"
    yield "vector.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    yield "bomb.png", bomb(30_000)
    yield "li\nne.jpg", b"nothing"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dirty") / "photos"
    for place in ("good", "mixed"):
        (folder / place).mkdir(parents=True)
        for name, content in good():
            (folder / place / name).write_bytes(content)
    for name, content in bad():
        (folder / "mixed" / name).write_bytes(content)
    for name in (".DS_Store", "Thumbs.db", "._grey.jpg"):
        (folder / "good" / name).write_bytes(b"x")
    for name in (".git", "__MACOSX"):
        (folder / name).mkdir()
        (folder / name / "a.jpg").write_bytes(b"x")
    return folder


def test_what_is_damaged_ends_it_by_name_with_all_of_them_listed(alexnet, corpus, tmp_path):
    ended = alexnet("prepare", corpus, tmp_path / "store", "--side", "16", "--quiet")
    notice, message = ended.err.splitlines()
    assert ended.code == 3 and notice.endswith("Thumbs.db") and "--skip-bad" in message
    assert message.startswith(f"alexnet prepare: error: {corpus}/mixed/")
    listed = [json.loads(line) for line in (tmp_path / "store" / "skipped.jsonl").read_text().splitlines()]
    assert len(listed) > 4 and all(each["picture"] in each["fault"] for each in listed)
    count = len(bad())
    short = alexnet("prepare", corpus, tmp_path / "store", "--side", "16", "--quiet", "--skip-bad", count - 1)
    assert short.code == 3 and f"--skip-bad {count}" in short.err


def test_with_leave_the_rest_is_prepared_and_what_was_left_out_is_counted(alexnet, corpus, tmp_path):
    store, count = tmp_path / "store", len(bad())
    words = ("prepare", corpus, store, "--side", "16", "--kind", "pixels", "--skip-bad", count, "--json")
    ended = alexnet(*words)
    assert ended.code == 0 and "Thumbs.db" in ended.err
    told = json.loads(ended.out.splitlines()[-1])
    assert (told["skipped"], told["images"], told["classes"]) == (count, 2 * len(good()), 2)
    assert f"{count} left out" in ended.out and f"left out: {count - 5} more" in ended.out
    lines = [json.loads(line) for line in (store / "skipped.jsonl").read_text().splitlines()]
    assert sorted(line["picture"] for line in lines) == sorted(f"{corpus}/mixed/{name}" for name, _ in bad())
    dataset = open_store(Shelf(str(store)))
    keys = {*dataset.training.keys, *dataset.held_out.keys}
    assert keys == {f"{place}/{name}" for place in ("good", "mixed") for name, _ in good()}


def test_a_printers_jpeg_keeps_its_colours():
    apart = np.abs(decode(ycck(), "it").astype(int) - PICTURE)
    assert apart.max() < 12


def test_training_and_judging_name_the_same_pictures_and_never_go_on(alexnet, corpus, tmp_path):
    ended = alexnet("train", corpus, "--recipe", "cifar-18pct", "--quiet", "--run", tmp_path / "run")
    assert any(line.startswith(f"alexnet train: error: {corpus}/mixed/") for line in ended.err.splitlines())
    assert ended.code == 3 and not (tmp_path / "run" / "recipe.json").exists()
    assert len(open_dataset(str(corpus)).notices) == 1
