"""Arrays in files: what was written comes back, and a flipped bit is seen."""

import numpy as np
import pytest

from alexnet.runtime.arrays import read_arrays, write_arrays
from alexnet.runtime.errors import BadInputError

ARRAYS = {
    "mean": np.arange(12, dtype=np.float32).reshape(3, 4),
    "count": np.asarray(7),
    "empty": np.zeros((0, 3), np.uint8),
}


def test_what_was_written_comes_back(tmp_path):
    write_arrays(tmp_path / "some.safetensors", ARRAYS)
    again = read_arrays(tmp_path / "some.safetensors")
    assert again.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert again[name].dtype == array.dtype
        assert np.array_equal(again[name], array)


def test_an_array_laid_out_otherwise_comes_back_as_it_was_seen(tmp_path):
    turned = ARRAYS["mean"].T
    write_arrays(tmp_path / "some.safetensors", {"turned": turned})
    assert np.array_equal(read_arrays(tmp_path / "some.safetensors")["turned"], turned)


def test_one_flipped_bit_anywhere_is_seen(tmp_path):
    path = tmp_path / "some.safetensors"
    write_arrays(path, ARRAYS)
    whole = path.read_bytes()
    for place in range(8, len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            again = read_arrays(path)
        except BadInputError as error:
            assert str(path) in str(error)
            continue
        # A flipped space behind the header changes nothing that is read.
        assert all(np.array_equal(again[name], array) for name, array in ARRAYS.items())


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadInputError, match=r"none\.safetensors"):
        read_arrays(tmp_path / "none.safetensors")
