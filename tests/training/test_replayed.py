"""A recorded step is the step: on a tape that does on a processor what a CUDA graph does on a GPU, and on a GPU.

The tape keeps the operations and the memory they read and write, and forgets what Python decided and counted: a number
that was written into the recording instead of being given to it would be the same in every step.
"""

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from resuming import Watching, begin, differing, left, stopped
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from alexnet.data.sources import open_dataset
from alexnet.kernels import choice
from alexnet.network.layers import BatchNorm
from alexnet.network.lineages import lineage
from alexnet.runtime.errors import MachineError
from alexnet.runtime.replay import BEFORE, OnGpu, Replayed
from alexnet.training.loop import Training
from alexnet.training.recipes import RECIPES
from company import small

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
FROM_OUTSIDE = ("aten::_local_scalar_dense", "aten::lift_fresh", "aten::item")  # numbers that a GPU would wait for


class Operations(TorchDispatchMode):
    """What is computed under it, in order."""

    def __init__(self):
        super().__init__()
        self.done = []

    def __torch_dispatch__(self, function, types, given=(), named=None):
        if function.name() in FROM_OUTSIDE:
            raise RuntimeError(f"{function.name()} cannot be recorded\nand more that nobody wants to read")
        result = function(*given, **(named or {}))
        self.done.append((function, *tree_map_only(torch.Tensor, torch.Tensor.detach, (given, named or {}, result))))
        return result


class Tape(OnGpu):
    """Recording changes nothing, as on a GPU: what the work changes on the way is put back."""

    def __init__(self, changed):
        self.changed, self.replays = changed, 0

    def place(self, like):
        return torch.empty_like(like)

    def send(self, given, places):
        for each, place in zip(given, places, strict=True):
            place.copy_(each)

    @contextmanager
    def aside(self):
        yield

    def record(self, work, given):
        before = [each.clone() for each in self.changed]
        with Operations() as operations:
            result = work(given)
        for each, value in zip(self.changed, before, strict=True):
            each.copy_(value)
        return lambda: self.replay(operations.done), result

    @torch.no_grad()
    def replay(self, operations):
        self.replays += 1
        for function, given, named, result in operations:
            again = function(*given, **named)
            for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def on_tape(run):
    """Steps of this run are recorded from here on."""
    step = run.step
    changed = [*step.update.weights.values(), *step.update.velocity.values(), *step.network.parameters()]
    changed += [layer.moments for layer in step.normalized]
    tape = Tape([each.detach() for each in changed])
    step.replayed = Replayed(tape)
    return tape


@pytest.fixture
def plainly(monkeypatch):
    """PyTorch's own operations, images all at once: as nothing compiled can be seen by a tape."""
    monkeypatch.setattr(choice, "AVAILABLE", False)
    monkeypatch.setattr(choice, "TRITON", False)
    monkeypatch.setattr("alexnet.data.presentation.Presentation._one_by_one", lambda self, given: self.at_once(given))


@pytest.fixture(scope="module")
def dataset(pictures):
    return open_dataset(str(pictures))


SMALL = {"side": 107, "patch": 99, "positions": 9}
RECIPE = {"learning.batch": "8", "learning.epochs": "12"}


def case(name):
    """A recipe and its network, both small: batches of eight and fewer, rates, colours and what moves all changing."""
    recipe, table = RECIPES[name].altered(RECIPE), lineage(name)
    match name:
        case "source-2012":
            images = replace(recipe.images, **SMALL, patch_shared_by=3)
            return replace(recipe.altered({"network.initial": "scaled"}), images=images), small(name)
        case "large-batch":
            groups = [replace(each, images=4) if isinstance(each, BatchNorm) else each for each in small(name).layers]
            recipe = recipe.altered({"learning.rate_for": "8"})
            return replace(recipe, images=replace(recipe.images, **SMALL)), replace(small(name), layers=tuple(groups))
        case _:
            return recipe, table


@pytest.mark.parametrize(("name", "computed"), [("source-2012", 14), ("large-batch", 6), ("cifar-11pct", 6)])
def test_replayed_from_a_tape_it_leaves_the_same_bits(plainly, dataset, tmp_path, name, computed):
    """Of each kind, three steps at most are computed: full and smaller batches, colours or none, conv1 still or not."""
    recipe, table = case(name)
    assert not stopped(begin(recipe, dataset, tmp_path / "straight", Watching(), table))
    run = begin(recipe, dataset, tmp_path / "run", Watching(), table)
    tape = on_tape(run)
    assert not stopped(run)
    assert tape.replays == run.total_steps - computed
    assert differing(left(tmp_path / "straight"), left(tmp_path / "run")) == []


def test_layers_that_stand_still_in_turn_are_not_taken_for_one_another(plainly, dataset, tmp_path, monkeypatch):
    """As many move in every step."""
    recipe, table = case("cifar-11pct")
    rate = Training._rate

    def in_turn(run, layer, bias, done=0):
        still = ("conv1", "conv2")[run.position.step % 2]
        return 0.0 if layer == still else rate(run, layer, bias, done)

    monkeypatch.setattr(Training, "_rate", in_turn)
    assert not stopped(begin(recipe, dataset, tmp_path / "straight", Watching(), table))
    run = begin(recipe, dataset, tmp_path / "run", Watching(), table)
    tape = on_tape(run)
    assert not stopped(run)
    assert len({kind[0][0] for kind in run.step.replayed._recorded}) == 2 and tape.replays > 20
    assert differing(left(tmp_path / "straight"), left(tmp_path / "run")) == []


def test_batches_in_portions_are_not_recorded(plainly, dataset, tmp_path):
    """A recording would know the gradients of the portions before the last."""
    recipe, table = case("large-batch")
    portioned = recipe.altered({"parallel.portion": "4"})
    assert not stopped(begin(portioned, dataset, tmp_path / "straight", Watching(), table))
    run = begin(portioned, dataset, tmp_path / "run", Watching(), table)
    tape = on_tape(run)
    assert not stopped(run)
    assert tape.replays < run.total_steps / 4, "but for smaller batches of one portion"
    assert differing(left(tmp_path / "straight"), left(tmp_path / "run")) == []


def test_a_step_that_cannot_be_recorded_ends_the_run_with_a_line(plainly, dataset, tmp_path, monkeypatch):
    """Here because a number is looked at in the middle of it, which a GPU would have to be waited for."""
    recipe, table = case("cifar-11pct")
    run = begin(recipe, dataset, tmp_path / "run", Watching(), table)
    on_tape(run)
    move = run.update.move
    monkeypatch.setattr(run.update, "move", lambda *given: move(*given) if given[1].sum().item() else 0)
    with pytest.raises(MachineError) as ended:
        run.run()
    reason = "aten::_local_scalar_dense cannot be recorded"
    assert str(ended.value).startswith(f"the GPU cannot record a step ({reason}); go on with --resume and a --parallel")


class Failing:
    """A recording whose end fails, too, as torch.cuda.graph's does."""

    def __init__(self, *_, **how):
        assert how == {"capture_error_mode": "thread_local"}

    def __enter__(self):
        pass

    def __exit__(self, *_):
        raise RuntimeError("CUDA error: operation failed due to a previous error during capture")


def test_the_first_cause_is_named(monkeypatch):
    for name, instead in (("Stream", object), ("graph_pool_handle", object), ("CUDAGraph", object), ("graph", Failing)):
        monkeypatch.setattr(torch.cuda, name, instead)
    monkeypatch.setattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: None, raising=False)
    tape = OnGpu()
    for name in ("place", "send", "aside"):
        monkeypatch.setattr(tape, name, getattr(Tape([]), name))
    replayed = Replayed(tape)

    def work(given):
        if replayed._times.total() > BEFORE:
            raise RuntimeError("operation not permitted\nand more")
        return given[0]

    for _ in range(BEFORE):
        replayed("kind", work, [torch.ones(1)])
    with pytest.raises(MachineError, match=r"^the GPU cannot record a step \(operation not permitted\); "):
        replayed("kind", work, [torch.ones(1)])


def test_a_result_is_not_overwritten_by_the_next_and_each_kind_and_shape_has_its_own_recording():
    replayed, counted = Replayed(Tape([])), []

    def work(given):
        counted.append(1)  # Python's part, which is not done again
        return given[0].sum() * len(counted) + len(given[0])

    given = [torch.full((2,), float(each)) for each in range(8)]
    results = [replayed("kind", work, [each]) for each in given]
    # Three times it is computed; what was counted at the fourth stays in the recording.
    assert [float(each) for each in results] == [2, 6, 14, 26, 34, 42, 50, 58] and len(counted) == BEFORE + 1
    assert [float(each[0]) for each in given] == list(range(8))
    for kind, size in (("kind", 3), ("another", 2)):
        assert float(replayed(kind, lambda given: given[0].sum(), [torch.ones(size)])) == size
    assert len(replayed._recorded) == 1


@GPU
@pytest.mark.parametrize("name", ["source-2012", "large-batch", "cifar-11pct"])
def test_on_a_gpu_a_replayed_step_leaves_the_bits_of_one_that_is_launched(dataset, tmp_path, name):
    recipe, table = case(name)
    straight = begin(recipe, dataset, tmp_path / "straight", Watching(), table)
    straight.step.replayed = None
    assert not stopped(straight)
    run = begin(recipe, dataset, tmp_path / "run", Watching(), table)
    assert not stopped(run)
    assert run.step.replayed._recorded
    assert differing(left(tmp_path / "straight"), left(tmp_path / "run")) == []


@GPU
def test_on_a_gpu_what_is_fetched_while_it_computes_is_not_mixed_up():
    """Nobody holds what was given, and Python is as far ahead as it may be."""
    replayed, turns = Replayed(OnGpu()), 12

    def work(given):
        torch.cuda._sleep(20_000_000)
        return given[0].sum(dtype=torch.int64)

    results = [replayed("sum", work, [torch.full((2**22,), turn, dtype=torch.uint8)]) for turn in range(turns)]
    assert [int(each) for each in results] == [turn * 2**22 for turn in range(turns)]


@GPU
def test_on_a_gpu_a_recording_goes_on_when_others_in_the_process_give_up_what_cublas_works_in():
    """As recordings by torch.compile do. What is freed is given to others, and filled. A long product is summed in
    parts, which lie in that memory."""
    weight = torch.randn(65536, 64, device="cuda", dtype=torch.bfloat16)
    replayed, given = Replayed(OnGpu()), torch.randn(64, 65536, device="cuda", dtype=torch.bfloat16)
    right = replayed("product", lambda given: given[0] @ weight, [given]).clone()
    for _ in range(BEFORE + 1):
        replayed("product", lambda given: given[0] @ weight, [given])
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()
    others = [torch.full((2**25,), 255, device="cuda", dtype=torch.uint8) for _ in range(16)]
    for _ in range(3):
        assert torch.equal(replayed("product", lambda given: given[0] @ weight, [given]), right)
    assert all((other == 255).all() for other in others)
