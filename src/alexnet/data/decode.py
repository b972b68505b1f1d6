"""The one way a picture becomes pixels, for preparing, training, judging and classifying alike.

The only door to Pillow and simplejpeg. Formats are told by content, never by name. EXIF rotation is applied (the 2012
program had none), transparency is laid on white, 16-bit grey is scaled, CMYK is converted by Pillow. Ordinary JPEGs go
through simplejpeg where it is installed, rescaling through the compiled kernel where Numba is: the same pixels as
Pillow's (tests hold it), several times as fast. A JPEG whose data ends early is refused by simplejpeg; Pillow alone
notices that only where the end itself is missing.
"""

import io
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from alexnet.kernels.compiled import AVAILABLE
from alexnet.kernels.rescaling import columns_first, rescaled
from alexnet.runtime.errors import BadInputError

try:
    import simplejpeg
except ImportError:  # Pillow reads everything, only slower
    simplejpeg = None

Pixels = NDArray[np.uint8]
Shape = Literal["cropped", "squashed"]
Filter = Literal["bicubic", "bilinear", "lanczos", "area"]
PILLOWS: dict[Filter, Image.Resampling] = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "area": Image.Resampling.BOX,
}

ORIENTATION = 0x0112  # of EXIF
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
LARGEST = 100_000_000  # pixels; a header that claims more is refused before anything is decoded
LONGEST = 64  # times the shorter side; of a longer picture only so much of the middle is looked at
Image.MAX_IMAGE_PIXELS = None  # ours, below, is an error where Pillow's is a warning up to twice its size
# Damaged EXIF and palette oddities: the picture itself is what counts. Set once, since setting it around each picture
# (warnings.catch_warnings) is not safe in threads.
warnings.filterwarnings("ignore", module=r"PIL\..*")


def decode(encoded: bytes, name: str) -> Pixels:
    """The upright RGB picture in `encoded`.

    encoded   the bytes of a JPEG, PNG, WebP, BMP or GIF (its first frame)
    name      what to call it in errors
    returns   uint8[H, W, 3]

    Raises BadInputError naming the picture when it cannot be read whole; MemoryError says nothing about the picture.
    """
    if not encoded:
        raise BadInputError(f"{name}: the file is empty; remove it or put the picture back")
    if (pixels := _ordinary_jpeg(encoded, name)) is not None:
        return pixels
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            if image.width * image.height > LARGEST:
                raise BadInputError(
                    f"{name}: {image.width} x {image.height} pixels exceed {LARGEST:,}; make it smaller first"
                )
            image.load()
            return np.asarray(_rgb(_upright(image)))
    except UnidentifiedImageError:
        raise BadInputError(f"{name}: not a JPEG, PNG, WebP, BMP or GIF picture; remove it or convert it") from None
    except (OSError, ValueError, SyntaxError, OverflowError, NotImplementedError) as error:
        raise BadInputError(f"{name}: damaged picture ({error}); replace it or remove it") from error


def read(path: Path) -> Pixels:
    """Decode the file at `path`: uint8[H, W, 3]. Raises BadInputError when it is missing or damaged."""
    return decode(read_bytes(path), str(path))


def read_bytes(path: Path) -> bytes:
    """The file's bytes. Raises BadInputError when it is missing, unreadable or no regular file."""
    if path.is_dir():
        raise BadInputError(f"{path}: is a folder; name a picture in it")
    if path.exists() and not path.is_file():
        raise BadInputError(f"{path}: is not a regular file; name a picture")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise BadInputError(f"{path}: no such file; check the name") from None
    except OSError as error:
        raise BadInputError(f"{path}: cannot be read: {error.strerror}; check its permissions") from error


def square(pixels: Pixels, side: int, shape: Shape = "cropped", by: Filter = "bicubic") -> Pixels:
    """Section 2: rescale so that the shorter side is `side`, cut out the central square.

    pixels    uint8[H, W, 3]
    shape     "cropped" as the paper says, or "squashed": both sides to `side`, as Caffe's users did
    by        the filter, antialiased. That of 2012 is unknown; the author's later program shrinks by area and enlarges
              by cubic
    returns   uint8[side, side, 3]
    """
    if pixels.shape[:2] == (side, side):
        return pixels
    if shape == "squashed":
        return _rescaled(pixels, (side, side), side, by)
    shorter = min(pixels.shape[:2])
    # Rescaled whole, a picture of 1 x 20,000 would have a billion pixels.
    kept = [min(length, LONGEST * shorter) for length in pixels.shape[:2]]
    middle = pixels[_central(pixels.shape[0], kept[0]), _central(pixels.shape[1], kept[1])]
    return _rescaled(middle, (round(kept[0] * side / shorter), round(kept[1] * side / shorter)), side, by)


def jpeg(pixels: Pixels, quality: int) -> bytes:
    """Encode uint8[H, W, 3] as a JPEG of that quality (1 to 95), colours at half the resolution (4:2:0)."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return file.getvalue()


def _rescaled(pixels: Pixels, size: tuple[int, int], side: int, by: Filter) -> Pixels:
    """The central square of the picture rescaled to height and width `size`."""
    down, across = (_central(length, side) for length in size)
    if AVAILABLE and not columns_first(pixels.shape[0], pixels.shape[1], size):
        return rescaled(pixels, size, (down.start, across.start), (side, side), by)
    return np.asarray(Image.fromarray(pixels).resize(size[::-1], PILLOWS[by]))[down, across]


def _central(length: int, kept: int) -> slice:
    start = (length - kept) // 2
    return slice(start, start + kept)


def _ordinary_jpeg(encoded: bytes, name: str) -> Pixels | None:
    """The pixels of a JPEG without oddities: YCbCr or grey, undamaged, of ordinary size. None for others.

    Raises BadInputError for one whose data ends early: Pillow would fill the rest with grey.
    """
    if simplejpeg is None or encoded[:2] != b"\xff\xd8":
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(encoded)
        if colours not in ("YCbCr", "Gray") or height * width > LARGEST:
            return None
        pixels: Pixels = simplejpeg.decode_jpeg(encoded, "RGB")
    except ValueError as error:  # damaged, or a kind that Pillow may still read: it decides
        if "remature end" in str(error):
            raise BadInputError(f"{name}: damaged picture (its data ends early); replace it or remove it") from error
        return None
    return _turned(pixels, encoded) if b"Exif\0\0" in encoded else pixels


def _turned(pixels: Pixels, encoded: bytes) -> Pixels:
    """The pixels of a JPEG with EXIF, upright."""
    image = Image.fromarray(pixels)
    try:
        with Image.open(io.BytesIO(encoded), formats=("JPEG",)) as header:
            image.getexif()[ORIENTATION] = header.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged EXIF: the picture itself is what counts
        return pixels
    return np.asarray(_upright(image))


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow clips 16-bit grey at 255 instead of scaling it.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        coloured = image.convert("RGBA")
        white = Image.new("RGBA", coloured.size, "white")
        image = Image.alpha_composite(white, coloured)
    return image.convert("RGB")
