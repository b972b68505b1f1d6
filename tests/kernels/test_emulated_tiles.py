"""What is computed on tiles is tested where a processor has none, too: on emulated ones."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from alexnet.kernels.compiled import AVAILABLE
from alexnet.kernels.tiles_numba import there_are_tiles

ON_TILES = ("test_convolution_on_tiles.py", "test_stride_one.py", "test_bounds.py", "test_update_by_factors.py")
HERE = Path(__file__).parent


@pytest.mark.skipif(sys.platform != "linux", reason="threads are told apart by Linux's numbers")
@pytest.mark.skipif(there_are_tiles(), reason="this processor has tiles of its own")
@pytest.mark.skipif(not AVAILABLE, reason="Numba is not installed or switched off")
def test_what_is_computed_on_tiles_is_right_on_emulated_ones():
    files = [str(HERE / name) for name in ON_TILES]
    words = [sys.executable, "-m", "pytest", "-p", "emulated_tiles", "-k", "not points", *files]
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    ended = subprocess.run(words, cwd=HERE.parents[1], env=alone, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "skipped" not in ended.stdout and "passed" in ended.stdout
