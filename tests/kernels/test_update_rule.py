"""Section 5's rule as one sweep: against the formula, number by number, in every kind and layout, in both ways."""

import pytest
import torch

from alexnet.kernels import choice, update_rule
from alexnet.kernels.update_rule import CHUNK, move


@pytest.fixture(params=["compiled", "plain", "triton"])
def way(request, monkeypatch):
    if request.param == "plain":
        monkeypatch.setattr(update_rule, "way", lambda x: "plain")
        monkeypatch.setattr(update_rule, "PIECE", 1000)
    elif request.param == "triton":
        if not choice.TRITON or torch.cuda.is_available():
            pytest.skip("Triton's interpreter is for where no GPU is")
        monkeypatch.setattr(update_rule, "way", lambda x: "triton" if x.dtype == torch.float32 else "plain")
    return request.param


def numbers(*shape, seed, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def rule(momentum, decay, rate, like):
    return torch.tensor([momentum, decay * rate, rate], dtype=torch.float64).to(like.dtype)


def formula(w, v, g, momentum, decay, rate):
    v = momentum * v - decay * rate * w - rate * g
    return w + v, v


@pytest.mark.parametrize("size", [1, 7, CHUNK - 1, CHUNK, 3 * CHUNK + 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gradient", [torch.bfloat16, None])
def test_it_is_the_papers_rule(way, size, dtype, gradient):
    w, v, g = (numbers(size, seed=seed, dtype=dtype) for seed in range(3))
    g = g.to(gradient or dtype)
    copy = torch.zeros(size, dtype=torch.bfloat16)
    exact_w, exact_v = formula(w.double(), v.double(), g.double(), 0.9, 0.0005, 0.01)
    move(w, v, g, copy, rule(0.9, 0.0005, 0.01, w))
    bound = 1e-6 if dtype == torch.float32 else 1e-15
    torch.testing.assert_close(v.double(), exact_v, rtol=bound, atol=bound)
    torch.testing.assert_close(w.double(), exact_w, rtol=bound, atol=bound)
    # Triton's interpreter cuts digits off where a GPU rounds.
    torch.testing.assert_close(copy, w.to(torch.bfloat16), rtol=2**-7 if way == "triton" else 0, atol=0)


@pytest.mark.parametrize(("weights", "gradient"), [(torch.bfloat16, torch.bfloat16), (torch.float32, torch.float16)])
def test_kinds_that_no_kernel_knows_are_moved_plainly(monkeypatch, weights, gradient):
    """A network that is bf16 itself has no float32 weights: its bits must not be taken for numbers."""
    moved = []
    for chosen in (choice.way, lambda x: "plain"):
        monkeypatch.setattr(update_rule, "way", chosen)
        w, v = (numbers(50, seed=seed, dtype=weights) for seed in range(2))
        move(w, v, numbers(50, seed=2, dtype=gradient), None, rule(0.9, 0.0005, 0.01, w))
        moved.append(torch.cat([w, v]))
    assert torch.equal(*moved)


def test_a_gradient_in_another_layout_meets_its_own_weights(way):
    shape = (6, 5, 3, 4)
    w, v, g = (numbers(*shape, seed=seed) for seed in range(3))
    exact_w, _ = formula(w, v, g, 0.9, 0.0005, 0.01)
    w, v = (each.contiguous(memory_format=torch.channels_last) for each in (w, v))
    move(w, v, g, None, rule(0.9, 0.0005, 0.01, w))
    torch.testing.assert_close(w, exact_w)
    assert w.is_contiguous(memory_format=torch.channels_last)


def test_a_copy_rounds_to_the_nearest_and_ties_to_even(way):
    if way == "triton":
        pytest.skip("Triton's interpreter cuts digits off where a GPU rounds")
    bits = torch.tensor(
        [0x3F808000, 0x3F818000, 0x3F807FFF, 0x3F808001, 0x7F7FFFFF, 0x7F800000, 0x7FC00001, 0x7F800001]
    )
    w = bits.to(torch.int32).view(torch.float32)
    copy = torch.zeros(len(w), dtype=torch.bfloat16)
    move(w, torch.zeros_like(w), torch.zeros_like(w), copy, rule(0.0, 0.0, 0.0, w))
    torch.testing.assert_close(copy, w.to(torch.bfloat16), rtol=0, atol=0, equal_nan=True)


def test_any_number_of_threads_gives_the_same_bits():
    results = []
    for threads in (1, 2, 3):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        w, v, g = (numbers(5 * CHUNK + 3, seed=seed) for seed in range(3))
        move(w, v, g, None, rule(0.9, 0.0005, 0.01, w))
        torch.set_num_threads(before)
        results.append(w)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
