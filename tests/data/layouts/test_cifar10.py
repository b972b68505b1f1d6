"""CIFAR-10's own files: python batches and binary batches give one data set, and a pickle runs nothing."""

import contextlib
import os
import pickle
import struct
from itertools import product
from typing import ClassVar

import numpy as np
import pytest

from alexnet.data.sources import open_dataset
from alexnet.runtime.errors import BadInputError

BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")


class AsPython2(pickle._Pickler):
    """Pickles as the author's Python 2 did, protocol 2: its `str` are bytes, and NumPy's functions have old places."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_bytes(self, value):
        self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes


def write_python(file, labels, planes):
    with file.open("wb") as opened:
        AsPython2(opened, 2).dump({b"labels": labels, b"data": planes, b"batch_label": b"one of six"})
    file.write_bytes(file.read_bytes().replace(b"numpy._core", b"numpy.core"))


def write_binary(file, labels, planes):
    file.write_bytes(np.hstack([np.array(labels, np.uint8)[:, None], planes]).tobytes())


@pytest.fixture
def batches():
    random = np.random.default_rng(3)
    return {
        name: ([*range(10), *random.integers(0, 10, 5).tolist()], random.integers(0, 256, (15, 3072), np.uint8))
        for name in BATCHES
    }


@pytest.fixture
def python_files(batches, tmp_path):
    folder = tmp_path / "python" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name, (labels, planes) in batches.items():
        write_python(folder / name, labels, planes)
    return folder


@pytest.fixture
def binary_files(batches, tmp_path):
    folder = tmp_path / "binary" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for name, (labels, planes) in batches.items():
        write_binary(folder / f"{name}.bin", labels, planes)
    return folder


def test_the_python_and_the_binary_files_are_one_data_set(python_files, binary_files, batches):
    one, other = open_dataset(str(python_files)), open_dataset(str(binary_files))
    assert one.classes == other.classes and one.classes[0] == "airplane" and one.classes[9] == "truck"
    assert (len(one.training), len(one.held_out)) == (75, 15)
    for part, same in ((one.training, other.training), (one.held_out, other.held_out)):
        assert part.labels.tolist() == same.labels.tolist()
        for number in range(len(part)):
            np.testing.assert_array_equal(part.pixels(number), same.pixels(number))
    labels, planes = batches["test_batch"]
    assert one.held_out.labels.tolist() == labels
    red, green, blue = planes[7].reshape(3, 32, 32)
    np.testing.assert_array_equal(one.held_out.pixels(7), np.stack([red, green, blue], axis=2))


def test_the_folder_above_the_files_may_be_named_instead(python_files):
    assert open_dataset(str(python_files.parent)).digest == open_dataset(str(python_files)).digest


class Malicious:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


def test_a_malicious_pickle_is_refused_and_runs_nothing(python_files, tmp_path):
    canary = tmp_path / "canary"
    content = pickle.dumps({"labels": Malicious(canary)}, 2)
    (python_files / "data_batch_3").write_bytes(content)
    with pytest.raises(BadInputError, match=r"data_batch_3: .*posix\.mkdir"):
        open_dataset(str(python_files))
    assert not canary.exists()
    pickle.loads(content)
    assert canary.exists(), "the control: read without our care, it runs"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x02}q\x00.",
        b"not a pickle",
        pickle.dumps([1, 2], 2),
        pickle.dumps({"labels": [], "data": []}, 2),
        pickle.dumps(None, 2),
        b"\x80\x02cnumpy.core.multiarray\nno_such_thing\n.",
        b"\x80\x02cnumpy\nload\n.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
    ],
)
def test_what_is_no_python_batch_is_named(python_files, content):
    (python_files / "data_batch_2").write_bytes(content)
    with pytest.raises(BadInputError, match=r"data_batch_2: not a CIFAR-10 batch"):
        open_dataset(str(python_files))


def test_a_truncated_python_batch_is_named_wherever_it_ends(python_files):
    file = python_files / "test_batch"
    whole = file.read_bytes()
    for length in (1, 20, 200, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(BadInputError, match="test_batch: not a CIFAR-10 batch"):
            open_dataset(str(python_files))


@pytest.mark.parametrize(
    "change", [lambda content: content[:-1], lambda content: b"", lambda content: b"\x0a" + content[1:]]
)
def test_a_damaged_binary_batch_is_named(binary_files, change):
    file = binary_files / "data_batch_4.bin"
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(BadInputError, match=r"data_batch_4\.bin: not a CIFAR-10 batch"):
        open_dataset(str(binary_files))


def test_a_label_beyond_the_ten_classes_is_refused(python_files, batches):
    labels, planes = batches["data_batch_5"]
    write_python(python_files / "data_batch_5", [10, *labels[1:]], planes)
    with pytest.raises(BadInputError, match="data_batch_5: "):
        open_dataset(str(python_files))


@pytest.mark.parametrize("missing", ["data_batch_3", "test_batch"])
def test_a_missing_batch_is_named(python_files, missing):
    (python_files / missing).unlink()
    with pytest.raises(BadInputError, match=f"{missing}: missing"):
        open_dataset(str(python_files))


def test_any_damage_to_a_python_batch_is_named(python_files):
    file = python_files / "data_batch_1"
    whole = file.read_bytes()
    for place, byte in product(range(60), b"\0e})"):  # that name no memory, or take what is not there from the stack
        file.write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
        with contextlib.suppress(BadInputError):  # or it is read: a changed pixel is no damage to the form
            open_dataset(str(python_files))
