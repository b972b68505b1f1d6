"""Compiled code is kept for later processes; nothing that is wrong with what is kept, or with Numba, is an error."""

import gc
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from alexnet.kernels.compiled import AVAILABLE, compiled, processor_has

MODULE = """
import os
from alexnet.kernels import compiled as door
from alexnet.kernels.compiled import AVAILABLE, compiled

if "SOURCES" in os.environ:  # as if another file of the kernels had changed
    door._sources = lambda: os.environ["SOURCES"]

@compiled
def doubled(number):
    return 2 * number

number = float(os.environ["NUMBER"]) if "NUMBER" in os.environ else 21
print(AVAILABLE, doubled(number), *(doubled.stats.cache_hits.values() if AVAILABLE else ()))
"""


@pytest.fixture
def doubled(tmp_path):
    """A process that compiles and calls a function: what it printed, with these settings of its environment."""
    (tmp_path / "module.py").write_text(MODULE)

    def process(**settings):
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "kept"), "NUMBA_DISABLE_JIT": "0"} | settings
        words = [sys.executable, "-c", "import module"]
        ended = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        assert ended.stderr == ""
        return ended.stdout.split()

    return process


needs_numba = pytest.mark.skipif(not AVAILABLE, reason="Numba is not installed or switched off")
COMPILED, FOUND = ["True", "42"], ["True", "42", "1"]


@needs_numba
def test_the_second_process_finds_the_machine_code(doubled):
    assert doubled() == COMPILED
    assert doubled() == FOUND


@needs_numba
@pytest.mark.parametrize("ending", ["nbi", "nbc"])
@pytest.mark.parametrize("rest", [b"", b"no pickle"])
def test_damaged_machine_code_is_made_anew_and_kept_again(doubled, tmp_path, ending, rest):
    doubled()
    for file in (tmp_path / "kept").rglob(f"*.{ending}"):
        file.write_bytes(rest)
    assert doubled() == COMPILED
    assert doubled() == FOUND


@needs_numba
def test_machine_code_by_anothers_name_is_not_called(doubled, tmp_path):
    assert doubled() == COMPILED
    assert doubled(NUMBER="0.25") == ["True", "0.5"]
    one, other = sorted((tmp_path / "kept").rglob("*.nbc"))
    other.write_bytes(one.read_bytes())
    assert doubled(NUMBER="0.25") == ["True", "0.5"]
    assert doubled(NUMBER="0.25") == ["True", "0.5", "1"]


@needs_numba
def test_a_change_in_what_a_kernel_calls_is_noticed(doubled):
    """Numba's own cache would go on with the old one: it looks at the caller's file only."""
    doubled()
    assert doubled() == FOUND
    assert doubled(SOURCES="changed") == COMPILED


@needs_numba
def test_without_room_each_process_compiles_for_itself(doubled, tmp_path):
    doubled()
    # A folder where the index should be: writing fails whoever the user is, as on a full disk.
    for file in (tmp_path / "kept").rglob("*.nbi"):
        file.unlink()
        file.mkdir()
    assert doubled() == COMPILED
    assert doubled() == COMPILED


def test_numba_that_is_switched_off_leaves_the_function_alone(doubled):
    assert doubled(NUMBA_DISABLE_JIT="1") == ["False", "42"]


def test_broken_numba_leaves_the_function_alone(doubled, tmp_path):
    (tmp_path / "broken" / "numba").mkdir(parents=True)
    (tmp_path / "broken" / "numba" / "__init__.py").write_text("raise SystemError('built for another NumPy')")
    assert doubled(PYTHONPATH=str(tmp_path / "broken")) == ["False", "42"]


@needs_numba
def test_garbage_is_looked_for_again_once_a_function_is_compiled_or_cannot_be():
    @compiled
    def right(number):
        return number + 1

    @compiled
    def wrong(number):
        return number.nothing

    assert right(1) == 2 and gc.isenabled()
    with pytest.raises(Exception, match="nothing"):
        wrong(1)
    assert gc.isenabled()


NETWORK = """
import torch
from alexnet.kernels.compiled import AVAILABLE
from alexnet.network.alexnet import AlexNet

network = AlexNet("cifar-18pct")
network(torch.randn(2, 3, 32, 32)).square().sum().backward()
print(AVAILABLE, all(each.grad.isfinite().all() for each in network.parameters()))
"""


@pytest.mark.parametrize("switched_off", [True, False])
def test_without_numba_a_network_learns(tmp_path, switched_off):
    (tmp_path / "numba").mkdir()
    (tmp_path / "numba" / "__init__.py").write_text("raise SystemError('built for another NumPy')")
    how = {"NUMBA_DISABLE_JIT": "1"} if switched_off else {"PYTHONPATH": str(tmp_path)}
    words = [sys.executable, "-c", NETWORK]
    done = subprocess.run(words, env=os.environ | how, capture_output=True, text=True, check=False)
    assert done.stdout == "False True\n", done.stderr[-2000:]


@needs_numba
@pytest.mark.skipif(platform.machine() != "x86_64", reason="says what an x86 processor lacks")
def test_code_is_for_the_processor_that_numba_compiles_for():
    """Another package may have used Numba before us, with other settings; an instruction too many ends the process."""
    words = "import numba; numba.njit(lambda x: x + 1)(1)\n" + NETWORK
    without = {"NUMBA_ENABLE_AVX": "0"}
    done = subprocess.run(
        [sys.executable, "-c", words], env=os.environ | without, capture_output=True, text=True, check=False
    )
    assert done.stdout == "True True\n", done.stderr[-2000:]


@needs_numba
@pytest.mark.skipif(platform.machine() != "x86_64", reason="says what an older x86 processor has")
@pytest.mark.skipif(not processor_has("avx512f"), reason="this processor is such an older one: all tests are of it")
def test_an_older_processor_computes_the_same(tmp_path):
    older = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma", "NUMBA_CACHE_DIR": str(tmp_path)}
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/kernels/test_after_convolution.py"]
    which = ["-k", "compiled and (bf16 or float32 or dtype1) and (paper or CIFAR) and not layout"]
    where = {"env": os.environ | older, "cwd": Path(__file__).parents[2]}
    for given in ([*words, *which], [*words[:-1], "tests/kernels/test_update_by_factors.py"]):
        done = subprocess.run(given, capture_output=True, text=True, check=False, **where)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]  # it is 5 where no test was found


STEP = """
import hashlib, torch
from alexnet.network.alexnet import AlexNet

torch.set_num_threads(2)
network = AlexNet("paper").to(memory_format=torch.channels_last).eval()
images = torch.randn(8, 3, 224, 224, generator=torch.Generator().manual_seed(0))
network(images.contiguous(memory_format=torch.channels_last)).square().sum().backward()
digest = hashlib.sha256()
for name, parameter in network.named_parameters():
    if name.startswith("conv"):
        digest.update(parameter.grad.contiguous().numpy().tobytes())
print(digest.hexdigest())
"""


@needs_numba
def test_who_compiles_computes_the_same_bits_as_who_finds_the_machine_code(tmp_path):
    """Were a part compiled by itself, too, the process that did it might call that one, in which another of two
    products is rounded before it is added."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "2"}
    found = [
        subprocess.run([sys.executable, "-c", STEP], env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert found[0] == found[1]
