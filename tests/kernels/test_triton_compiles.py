"""The GPU's kernels compile for a GPU that is not here: Triton brings what it needs, its interpreter checks less."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="Triton is there on Linux only")
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
for what, maps in ((paper, 48), (last, 256), (apart, 48), (beside, 48)):
    constants = after_convolution_triton._constants(what, maps, torch.ones(1))
    kernels += [(after_convolution_triton._pooled, constants), (after_convolution_triton._pooled_back, constants)]
alone = after_convolution_triton._constants(Following(True, paper.norm), 128, None)
kernels += [(after_convolution_triton._followed, alone), (after_convolution_triton._followed_back, alone)]
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
    assert len(sizes) == 17 and all(int(size) > 1000 for size in sizes)
