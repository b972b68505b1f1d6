"""A record's CRC-32 is zlib's, whoever computes it."""

import zlib

import numpy as np
import pytest

from alexnet.kernels.checksum import crc32


@pytest.mark.parametrize("size", [0, 1, 7, 63, 4096, 196_608])
def test_it_is_zlib_s(size):
    content = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
    assert crc32(content.data) == zlib.crc32(content.data)
    assert crc32(content.tobytes()) == zlib.crc32(content.tobytes())
