"""ImageNet of 2012 in miniature: the same pictures as class folders, image-net.org's archives and Kaggle's tree."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

# In the development kit's own order: its numbers 1 to 4 are not the places among the sorted names.
CLASSES = ("n02119789", "n02100735", "n01440764", "n02110185")
INNER = ("n00001740", "n02083346")  # WordNet's inner nodes, numbered after the classes
SORTED = tuple(sorted(CLASSES))
VALIDATION = ("n02110185", "n01440764", "n02119789", "n02119789", "n02100735", "n01440764", "n02119789")
KIT = "ILSVRC2012_devkit_t12"
SYNSETS, ANSWERS = f"{KIT}/data/meta.mat", f"{KIT}/data/ILSVRC2012_validation_ground_truth.txt"
TRAIN_TAR, VAL_TAR, KIT_TAR = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", f"{KIT}.tar.gz"
ROW_END = " 85 1 499 272 n03995372 3 4 5 6 "


def picture(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def validation_name(number):
    return f"ILSVRC2012_val_{number:08}.JPEG"


TRAINING = {  # names that sort otherwise than their numbers do
    name: {f"{name}_{number}.JPEG": picture(100 * place + number) for number in (9, 10026, 100, 1978)[: 2 + place % 3]}
    for place, name in enumerate(CLASSES)
}
HELD_OUT = {validation_name(number): picture(5000 + number) for number in range(1, len(VALIDATION) + 1)}


def write_files(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def in_class_folders(place):
    return {f"{place}/{name}/{file}": data for name, files in TRAINING.items() for file, data in files.items()}


def write_folders(root):
    judged = {f"val/{name}/{file}": HELD_OUT[file] for name, file in zip(VALIDATION, HELD_OUT, strict=True)}
    return write_files(root, in_class_folders("train") | judged)


def tar_of(files, mode="w"):
    file = io.BytesIO()
    with tarfile.open(mode=mode, fileobj=file) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def meta(classes=CLASSES, inner=INNER, first=1):
    """`meta.mat` as the kit has it: a column of structures, the tree's inner nodes after the classes."""
    savemat = pytest.importorskip("scipy.io", reason="SciPy reads and writes the development kit").savemat
    fields = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height",
              "num_train_images")  # fmt: skip
    synsets = np.zeros((len(classes) + len(inner), 1), [(field, object) for field in fields])
    for place, name in enumerate((*classes, *inner)):
        children = np.array([[1, 2]] if place >= len(classes) else np.zeros((0, 0)), np.uint16)
        number = np.uint16(first + place)
        synsets[place, 0] = (number, name, "a, b", "text", np.uint8(children.size), children, np.uint8(0), 1300)
    file = io.BytesIO()
    savemat(file, {"synsets": synsets})
    return file.getvalue()


def answers(names=VALIDATION):
    return "".join(f"{CLASSES.index(name) + 1}\n" for name in names).encode()


def kit(**changed):
    files = {f"{KIT}/readme.txt": b"about", f"{KIT}/data/": b"", SYNSETS: meta(), ANSWERS: answers()}
    return {name: content for name, content in (files | changed).items() if name[-1] != "/" and content is not None}


def train_tar(training=TRAINING):
    return tar_of({f"{name}.tar": tar_of(files) for name, files in training.items()})


def val_tar(pictures=HELD_OUT):
    return tar_of(dict(reversed(pictures.items())))


def write_archives(root):
    return write_files(root, {TRAIN_TAR: train_tar(), VAL_TAR: val_tar(), KIT_TAR: tar_of(kit(), "w:gz")})


def table(names=VALIDATION):
    """Kaggle's rows are in no order."""
    rows = [f"ILSVRC2012_val_{number:08},{name}{ROW_END}" for number, name in enumerate(names, 1)]
    return "\n".join(["ImageId,PredictionString", *rows[::-1], ""]).encode()


def write_kaggle(root):
    place = "ILSVRC/Data/CLS-LOC"
    judged = {f"{place}/val/{file}": data for file, data in HELD_OUT.items()}
    others = {
        f"{place}/test/ILSVRC2012_test_00000001.JPEG": picture(1),
        "ILSVRC/ImageSets/CLS-LOC/val.txt": b"ILSVRC2012_val_00000001 1\n",
        "LOC_val_solution.csv": table(),
        "LOC_synset_mapping.txt": "".join(f"{name} a, b\n" for name in SORTED).encode(),
    }
    return write_files(root, in_class_folders(f"{place}/train") | judged | others)


def assert_same(one, other):
    """The same classes, labels, keys and pixels, learned from and judged by."""
    assert one.classes == other.classes
    for part, same in ((one.training, other.training), (one.held_out, other.held_out)):
        assert list(part.keys) == list(same.keys)
        assert part.labels.dtype == np.int64 and part.labels.tolist() == same.labels.tolist()
        for number in range(len(part)):
            np.testing.assert_array_equal(part.pixels(number), same.pixels(number))
    assert one.digest == other.digest
