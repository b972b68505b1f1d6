"""The GPU's kernels on a processor, by Triton's interpreter: against the same operations one by one, in float64."""

import os
import subprocess
import sys

import pytest
import torch
from test_after_convolution import EVERY, activities, both, each

from alexnet.kernels import after_convolution

pytest.importorskip("triton", reason="Triton is there on Linux only")


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("tested on the GPU itself")
    monkeypatch.setattr(after_convolution, "way", lambda x: "triton")


@each
@pytest.mark.parametrize("sides", [(12, 7, 9), (96, 5, 4), (2, 5, 5), (6, 4, 27)])
def test_values_and_gradients_are_those_of_the_operations_one_by_one(what, sides):
    result, exact, gradient, exact_gradient = both(what, activities(2, *sides, dtype=torch.float32))
    torch.testing.assert_close(result, exact, rtol=3e-6, atol=1e-6)
    torch.testing.assert_close(gradient, exact_gradient, rtol=1e-5, atol=3e-6)


@each
def test_bf16_costs_one_cut(what):  # the interpreter cuts digits off where a GPU rounds
    result, exact, gradient, exact_gradient = both(what, activities(2, 12, 6, 7).to(torch.bfloat16))
    torch.testing.assert_close(result, exact, rtol=1.01 * 2**-7, atol=1e-6)
    if what.pool[0] == 1:
        torch.testing.assert_close(gradient, exact_gradient, rtol=1.01 * 2**-7, atol=1e-6)


def test_of_equal_activities_the_first_wins():
    x = torch.ones(1, 2, 5, 5, requires_grad=True)
    EVERY["pooling alone"](x).sum().backward()
    expected = torch.zeros(5, 5)
    expected[[0, 0, 2, 2], [0, 2, 0, 2]] = 1
    assert torch.equal(x.grad[0, 0], expected)


def test_what_is_not_a_number_is_not_hidden():
    x = activities(2, 6, 5, 5, dtype=torch.float32)
    x[0, 2, 2, 2] = torch.nan
    for what in EVERY.values():
        result = what(x)
        assert result[0, 2].isnan().any() and result[1].isfinite().all()


COMPILED = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from alexnet.kernels import after_convolution_triton as kernels
from alexnet.kernels.after_convolution import Following

NUMBERS = {"winners": "*u8", "k": "fp32", "alpha": "fp32", "beta": "fp32"}
PLACES = ("count", "height", "width", "rows", "columns")
for what, maps in ((Following(True, (2, 5, 2.0, 1e-4, 0.75), (3, 2)), 96), (Following(pool=(3, 2), last=True), 256)):
    for kernel in (kernels._forward, kernels._backward):
        constants = kernels.constants_of(what, maps)
        names = [name for name in kernel.arg_names if name not in constants]
        types = {name: NUMBERS.get(name, "i32" if name in PLACES else "*bf16") for name in names}
        source = ASTSource(kernel, types | dict.fromkeys(constants, "constexpr"), constants)
        compiled = triton.compile(source, GPUTarget("cuda", 90, 32), {"enable_fp_fusion": True})
        print(len(compiled.asm["cubin"]))
"""


def test_the_kernels_compile_for_a_gpu_that_is_not_here(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    words = [sys.executable, "-W", "error", "-c", COMPILED]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(int(size) > 1000 for size in done.stdout.split())
    assert len(done.stdout.split()) == 4
