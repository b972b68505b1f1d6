"""The GPU's kernels compile for a GPU that is not here: Triton brings what it needs, its interpreter checks less."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import alexnet.kernels

pytest.importorskip("triton", reason="Triton is there on Linux only")
from alexnet.kernels import launching_triton

COMPILED = """
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from alexnet.kernels import after_convolution_triton, dropout_triton, in_blocks_triton, presentation_triton
from alexnet.kernels import update_rule_triton, within_map_triton
from alexnet.kernels.after_convolution import Following

TYPES = {"winners": "*u8", "seed": "*i64", "bound": "i64", "patches": "*u8", "corners": "*i64", "mirrored": "*i1"}
TYPES |= dict.fromkeys(("shared", "sums", "shifts", "mean"), "*fp32")
TYPES |= dict.fromkeys(("k", "alpha", "beta", "scale", "factor"), "fp32")
WHOLE = "run count columns height width rows top left units tiles high wide x_maps out_maps g_maps maps"
TYPES |= dict.fromkeys((*WHOLE.split(), "before", "side", "mean_side", "start"), "i32")
paper, last = Following(True, (2, 5, 2.0, 1e-4, 0.75), (3, 2)), Following(pool=(3, 2), last=True)
kernels = [(dropout_triton._drop, {"tile": 1024}), (update_rule_triton._move, {"tile": 1024, "copied": True})]
within = {"maps": 32, "reach": 1, "padded": 32, "pixels": 32}
kernels += [(getattr(within_map_triton, name), within) for name in ("_forward", "_share", "_backward")]
kernels += [(in_blocks_triton._fill, {"room": 64, "maps": 3, "run": 16, "rest": 16, "wide": 64})]
presented = {"colours": 3, "row_room": 1024, "shifted": True, "at_patch": True}
kernels += [(presentation_triton._present, presented)]
apart, beside = Following(False, paper.norm, (2, 2), True), Following(True, paper.norm, (2, 1))
fifth = Following(True, pool=(3, 2))
for what, maps in ((paper, 48), (last, 256), (apart, 48), (beside, 48), (fifth, 128)):
    constants = after_convolution_triton._constants(what, maps, torch.ones(1))
    kernels += [(after_convolution_triton._pooled, constants), (after_convolution_triton._pooled_back, constants)]
unpooled = (Following(True, paper.norm), 128, None), (Following(True), 192, torch.ones(1))
for constants in (after_convolution_triton._constants(*each) for each in unpooled):
    kernels += [(after_convolution_triton._followed, constants), (after_convolution_triton._followed_back, constants)]
for kernel, constants in kernels:
    names = [name for name in kernel.arg_names if name not in constants]
    wide = dict.fromkeys(("w", "v", "numbers"), "*fp32") if kernel is update_rule_triton._move else {}
    types = {name: (TYPES | wide).get(name, "*bf16") for name in names} | dict.fromkeys(constants, "constexpr")
    compiled = triton.compile(
        ASTSource(kernel, types, constants), GPUTarget("cuda", 90, 32), {"enable_fp_fusion": True, "num_warps": 1}
    )
    print(len(compiled.asm["cubin"]))
"""


def test_the_kernels_compile_for_a_gpu_that_is_not_here(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    words = [sys.executable, "-W", "error", "-c", COMPILED]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    sizes = done.stdout.split()
    assert len(sizes) == 21 and all(int(size) > 1000 for size in sizes)


def launches(tree):
    """The calls of `kernel[grid](...)`."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Subscript))
    return [call for call in calls if any(word.arg == "enable_fp_fusion" for word in call.keywords)]


@pytest.mark.parametrize(
    "file", sorted(Path(alexnet.kernels.__file__).parent.glob("*_triton.py")), ids=lambda f: f.stem
)
def test_every_launch_is_on_its_tensors_own_gpu(file):
    """Triton launches on the current one."""
    tree = ast.parse(file.read_text())
    under = [
        node for node in ast.walk(tree) if isinstance(node, ast.With) and "launching(" in ast.unparse(node.items[0])
    ]
    guarded = [call for each in under for call in launches(each)]
    assert launches(tree) == guarded
    assert bool(guarded) == (file.stem not in ("lanes_triton", "launching_triton"))


@pytest.mark.parametrize(("capability", "said"), [((6, 1), "capability 7.0"), ((9, 0), "Triton: ")])
def test_where_triton_cannot_work_it_is_said_why(monkeypatch, capability, said):
    """Without a driver here; elsewhere without a C compiler."""
    if torch.cuda.is_available():
        pytest.skip("it works here")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    launching_triton.lacking.cache_clear()
    assert said in launching_triton.lacking(torch.device("cuda", 0))
    launching_triton.lacking.cache_clear()
