"""The same pictures in another layout: what is written as class folders, and what must be equal."""

import io

import numpy as np
from PIL import Image


def png(colour):
    file = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(file, "PNG")
    return file.getvalue()


PIXEL = png((10, 200, 30))


def labelled(root, every=1):
    """Class and bytes of each picture of a tree of class folders, in the order of their names."""
    return [(file.parent.name, file.read_bytes()) for file in sorted(root.glob("*/*"))][::every]


def write_class_folders(root, **splits):
    for split, rows in splits.items():
        for number, (name, content) in enumerate(rows):
            (root / split / name).mkdir(parents=True, exist_ok=True)
            (root / split / name / f"{number:03}.png").write_bytes(content)
    return root


def assert_alike(one, other):
    """The same classes, labels and pixels in the same order; what pictures are called is each layout's own."""
    assert one.classes == other.classes
    for part, same in ((one.training, other.training), (one.held_out, other.held_out)):
        assert part.labels.dtype == np.int64 and len(part) == len(set(part.keys)) > 0
        assert part.labels.tolist() == same.labels.tolist()
        for number in range(len(part)):
            np.testing.assert_array_equal(part.pixels(number), same.pixels(number))
