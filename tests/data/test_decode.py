"""Pictures as people have them: every kind becomes upright RGB or one error that names it."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet.data import decode as decode_module
from alexnet.data.decode import PILLOWS, decode, jpeg, read, square
from alexnet.runtime.errors import BadInputError

HEIGHT, WIDTH = 24, 32
random = np.random.default_rng(7)
SMOOTH = np.add.outer(np.linspace(0, 120, HEIGHT), np.linspace(0, 120, WIDTH))
PICTURE = np.stack([SMOOTH, SMOOTH[:, ::-1], 240 - SMOOTH], axis=2).astype(np.uint8)


def encoded(pixels, form="PNG", mode=None, **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels, mode)
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width, height, content=b""):
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b"")


def far(one, other):
    return np.abs(one.astype(int) - other.astype(int)).max()


def test_a_lossless_picture_comes_back_to_the_bit():
    for form, options in (("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True})):
        np.testing.assert_array_equal(decode(encoded(PICTURE, form, **options), "it"), PICTURE)


def test_a_grey_picture_has_three_equal_planes():
    grey = random.integers(0, 256, (5, 7), np.uint8)
    np.testing.assert_array_equal(decode(encoded(grey), "it"), np.repeat(grey[:, :, None], 3, 2))
    assert decode(encoded(grey, "JPEG"), "it").shape == (5, 7, 3)


def test_a_picture_of_one_bit_is_black_and_white():
    bits = np.eye(9, dtype=bool)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(bits)), "it")[:, :, 1], bits * 255)


def test_grey_of_sixteen_bits_is_scaled_and_not_clipped():
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    shown = decode(encoded(deep), "it")
    assert (shown == (np.arange(65536) // 256).reshape(256, 256, 1)).all() and shown.shape == (256, 256, 3)


def test_a_picture_for_which_the_memory_does_not_suffice_is_not_called_damaged(monkeypatch):
    monkeypatch.setattr(Image.Image, "convert", lambda *_: np.empty(2**50))
    with pytest.raises(MemoryError):
        decode(encoded(PICTURE), "it")


def test_a_palette_becomes_its_colours():
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8), "P")
    image.putpalette([250, 10, 20, 5, 200, 90])
    expected = [[[250, 10, 20], [5, 200, 90]], [[5, 200, 90], [250, 10, 20]]]
    assert decode(encoded(image), "it").tolist() == expected


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_a_transparent_colour_of_a_palette_becomes_white(form):
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    image.putpalette([250, 10, 20, 5, 200, 90])
    assert decode(encoded(image, form, transparency=1), "it").tolist() == [[[250, 10, 20], [255, 255, 255]]]


def test_a_transparent_colour_without_alpha_becomes_white():
    pixels = np.array([[[9, 9, 9], [200, 0, 0]]], np.uint8)
    assert decode(encoded(pixels, transparency=(9, 9, 9)), "it").tolist() == [[[255] * 3, [200, 0, 0]]]


def test_transparency_is_laid_on_white():
    pixels = np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [200, 0, 0, 128]]], np.uint8)
    opaque, clear, half = decode(encoded(pixels), "it")[0].astype(int)
    assert (opaque.tolist(), clear.tolist()) == ([200, 0, 0], [255, 255, 255])
    assert np.abs(half - [227, 127, 127]).max() <= 1
    grey = np.array([[[0, 255], [0, 0]]], np.uint8)
    assert decode(encoded(Image.fromarray(grey, "LA")), "it").tolist() == [[[0] * 3, [255] * 3]]


def test_a_cmyk_jpeg_keeps_its_colours():
    cmyk = Image.fromarray(PICTURE).convert("CMYK")
    assert far(decode(encoded(cmyk, "JPEG", quality=98), "it"), PICTURE) < 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_stands_upright(orientation):
    # What the camera's sensor saw, so that turning it as the tag says gives the picture.
    sensor = {
        1: PICTURE,
        2: PICTURE[:, ::-1],
        3: PICTURE[::-1, ::-1],
        4: PICTURE[::-1],
        5: PICTURE.transpose(1, 0, 2),
        6: np.rot90(PICTURE),
        7: PICTURE[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(PICTURE, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(sensor))
    np.testing.assert_array_equal(decode(encoded(image, exif=exif), "it"), PICTURE)
    assert far(decode(encoded(image, "JPEG", exif=exif, quality=98, subsampling=0), "it"), PICTURE) < 12


def test_a_damaged_exif_block_does_not_cost_the_picture():
    plain = encoded(PICTURE, "JPEG")
    broken = b"Exif\0\0MM\0*\xff\xff\xff\xff garbage"
    marked = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(broken) + 2) + broken + plain[2:]
    np.testing.assert_array_equal(decode(marked, "it"), decode(plain, "it"))


def test_the_format_is_told_by_content_and_not_by_name(tmp_path):
    (tmp_path / "really-a-png.jpg").write_bytes(encoded(PICTURE, "PNG"))
    np.testing.assert_array_equal(read(tmp_path / "really-a-png.jpg"), PICTURE)


def test_an_animation_is_its_first_frame():
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "lime", "blue")]
    animated = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (decode(animated, "it") == [255, 0, 0]).all()


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_a_truncated_jpeg_is_named_and_never_half_grey(share):
    whole = encoded(np.tile(PICTURE, (5, 5, 1)), "JPEG")
    with pytest.raises(BadInputError, match=r"^photos/half\.jpg: (damaged picture|not a JPEG)"):
        decode(whole[: int(len(whole) * share)], "photos/half.jpg")


@pytest.mark.parametrize("exif", [False, True])
def test_a_jpeg_whose_data_ends_early_is_not_filled_with_grey(exif):
    pytest.importorskip("simplejpeg")  # Pillow believes the end that stands there
    turned = Image.Exif()
    turned[0x0112] = 6
    whole = encoded(np.tile(PICTURE, (5, 5, 1)), "JPEG", **({"exif": turned} if exif else {}))
    with pytest.raises(BadInputError, match=r"^it: damaged picture \(its data ends early\); "):
        decode(whole[: len(whole) * 3 // 4] + b"\xff\xd9", "it")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "the file is empty"),
        (b"\xff", "not a JPEG"),
        (b"Dear photographer, the picture is in the other mail.\n" * 9, "not a JPEG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>", "not a JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a JPEG"),
        (encoded(PICTURE, "TIFF"), "not a JPEG"),
        (encoded(PICTURE)[:60], "damaged picture"),
    ],
)
def test_what_is_no_picture_is_named(tmp_path, content, fault):
    file = tmp_path / "1.jpg"
    file.write_bytes(content)
    with pytest.raises(BadInputError) as told:
        read(file)
    assert str(told.value).startswith(f"{file}: {fault}") and "; " in str(told.value)


def test_a_missing_file_and_a_folder_and_a_pipe_are_named_without_waiting(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    for name, fault in (("none", "no such file"), ("folder", "is a folder"), ("pipe", "is not a regular file")):
        with pytest.raises(BadInputError, match=rf"{name}\.jpg: {fault}"):
            read(tmp_path / f"{name}.jpg")


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (13_000, 13_000), (100_000_001, 1)])
def test_a_header_that_claims_too_much_is_refused_before_anything_is_decoded(width, height):
    bomb = png_of(width, height)  # a decoder would find no pixel in it, and call it damaged
    assert len(bomb) < 100
    with pytest.raises(BadInputError, match=f"bomb.png: {width} x {height} pixels"):
        decode(bomb, "bomb.png")


def test_a_large_header_within_the_limit_is_not_refused_for_its_size():
    with pytest.raises(BadInputError, match="damaged picture"):
        decode(png_of(10_000, 9_999), "it")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "BMP"])
def test_any_damage_ends_in_a_picture_or_in_an_error_that_names_it(form):
    whole = encoded(PICTURE, form)
    damage = np.random.default_rng(2012)
    refused = 0
    for _ in range(150):
        content = bytearray(whole)
        for place in damage.integers(0, len(content), damage.integers(1, 6)):
            content[place] ^= 1 << damage.integers(8)
        try:
            pixels = decode(bytes(content[: damage.integers(1, len(content) + 1)]), "it")
        except BadInputError as error:
            assert str(error).startswith("it: ")
            refused += 1
        else:
            assert pixels.dtype == np.uint8 and pixels.shape[2] == 3
    assert refused > 50


def two_steps(pixels, side, by=Image.Resampling.BICUBIC):
    """Section 2, said plainly: rescale so that the shorter side is `side`, then cut out the centre."""
    height, width = pixels.shape[:2]
    shorter = min(height, width)
    size = (round(width * side / shorter), round(height * side / shorter))
    rescaled = np.asarray(Image.fromarray(pixels).resize(size, by))
    top, left = (rescaled.shape[0] - side) // 2, (rescaled.shape[1] - side) // 2
    return rescaled[top : top + side, left : left + side]


def scene(height, width):
    """Waves of a few lengths: structure that a shift by a pixel would show, without noise that rounding would."""
    y, x = np.mgrid[:height, :width] / min(height, width)
    planes = [127 + 60 * np.sin(9 * x + 3 * y) + 60 * np.cos(8 * y - 4 * x + turn) for turn in (0, 1, 2)]
    return np.stack(planes, axis=2).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), [(300, 400), (401, 299), (97, 211), (33, 500), (500, 33), (64, 65)])
@pytest.mark.parametrize("side", [32, 64, 256])
def test_a_square_is_the_rescaled_pictures_central_square(height, width, side):
    pixels = scene(height, width)
    np.testing.assert_array_equal(square(pixels, side), two_steps(pixels, side))


@pytest.mark.parametrize("by", PILLOWS)
def test_every_filter_is_pillows_antialiased_one(by):
    filters = {"bicubic": "BICUBIC", "bilinear": "BILINEAR", "lanczos": "LANCZOS", "area": "BOX"}
    pixels = random.integers(0, 256, (90, 75, 3), np.uint8)
    expected = two_steps(pixels, 32, Image.Resampling[filters[by]])
    np.testing.assert_array_equal(square(pixels, 32, "cropped", by), expected)
    assert by == "bicubic" or far(expected, square(pixels, 32)) > 5


def test_of_a_very_long_picture_the_middle_is_looked_at():
    pixels = random.integers(0, 256, (4, 4 * 64 * 3, 3), np.uint8)
    np.testing.assert_array_equal(square(pixels, 8), square(pixels[:, 4 * 64 : -4 * 64], 8))


def test_simplejpeg_and_pillow_give_the_same_pixels(monkeypatch):
    pytest.importorskip("simplejpeg")
    folder = Path(__file__).parents[3] / "shared" / "data" / "imagenet-originals"
    files = [file.read_bytes() for file in sorted(folder.glob("*/*"))[::5]]
    for mode in ("RGB", "L"):
        for options in ({"quality": 75}, {"quality": 95, "subsampling": 0}, {"progressive": True}, {"subsampling": 1}):
            files.append(encoded(Image.fromarray(scene(57, 83)).convert(mode), "JPEG", **options))
    fast = [decode_module._ordinary_jpeg(each, "it") for each in files]
    assert sum(each is not None for each in fast) > 0.9 * len(files)
    monkeypatch.setattr(decode_module, "simplejpeg", None)
    for each, content in zip(fast, files, strict=True):
        if each is not None:
            np.testing.assert_array_equal(each, decode(content, "it"))


def test_a_stored_jpeg_is_close_to_its_square_and_the_same_each_time():
    pixels = scene(64, 64)
    assert jpeg(pixels, 90) == jpeg(pixels.copy(), 90)
    assert far(decode(jpeg(pixels, 95), "it"), pixels) < far(decode(jpeg(pixels, 50), "it"), pixels) < 40


def test_a_picture_of_the_right_size_is_left_alone():
    pixels = random.integers(0, 256, (32, 32, 3), np.uint8)
    np.testing.assert_array_equal(square(pixels, 32), pixels)
    np.testing.assert_array_equal(square(pixels, 32, "squashed"), pixels)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 2000), (2000, 1), (3, 2)])
def test_the_narrowest_pictures_have_a_square_too(height, width):
    pixels = random.integers(0, 256, (height, width, 3), np.uint8)
    assert square(pixels, 32).shape == (32, 32, 3)


def test_squashed_keeps_the_whole_picture():
    pixels = scene(60, 90)
    expected = np.asarray(Image.fromarray(pixels).resize((32, 32), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(square(pixels, 32, "squashed"), expected)
    assert far(square(pixels, 32), expected) > 20
