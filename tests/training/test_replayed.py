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
from alexnet.kernels import after_convolution, dropout, update_rule, within_map
from alexnet.network.layers import BatchNorm
from alexnet.network.lineages import lineage
from alexnet.runtime.replay import BEFORE, OnGpu, Replayed
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
    step.replayed = Replayed(tape, run.display.say)
    return tape


@pytest.fixture
def plainly(monkeypatch):
    """PyTorch's own operations, images all at once: as nothing compiled can be seen by a tape."""
    for kernel in (after_convolution, dropout, update_rule, within_map):
        monkeypatch.setattr(kernel, "way", lambda x: "plain")
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


@pytest.mark.parametrize(("name", "recorded"), [("source-2012", 3), ("large-batch", 2), ("cifar-11pct", 2)])
def test_replayed_from_a_tape_it_leaves_the_same_bits(plainly, dataset, tmp_path, name, recorded):
    recipe, table = case(name)
    assert not stopped(begin(recipe, dataset, tmp_path / "straight", Watching(), table))
    run = begin(recipe, dataset, tmp_path / "run", Watching(), table)
    tape = on_tape(run)
    assert not stopped(run)
    assert run.display.said == [] and len(run.step.replayed._recorded) == recorded
    assert tape.replays >= run.total_steps - (BEFORE + 2) * recorded
    assert differing(left(tmp_path / "straight"), left(tmp_path / "run")) == []


def test_what_cannot_be_recorded_is_computed_and_said_once(plainly, dataset, tmp_path, monkeypatch):
    """Here because a number is looked at in the middle of a step, which a GPU would have to be waited for."""
    recipe, table = case("cifar-11pct")
    assert not stopped(begin(recipe, dataset, tmp_path / "straight", Watching(), table))
    run = begin(recipe, dataset, tmp_path / "run", Watching(), table)
    tape = on_tape(run)
    move = run.update.move
    monkeypatch.setattr(run.update, "move", lambda names, numbers: move(names, numbers) if numbers.sum().item() else 0)
    assert not stopped(run)
    said = (
        "a step cannot be recorded here (aten::_local_scalar_dense cannot be recorded): the same results, more slowly"
    )
    assert run.display.said == [said] and tape.replays == 0
    assert differing(left(tmp_path / "straight"), left(tmp_path / "run")) == []


def test_a_result_is_not_overwritten_by_the_next_and_each_kind_and_shape_has_its_own_recording():
    replayed, counted = Replayed(Tape([]), print), []

    def work(given):
        counted.append(1)  # Python's part, which is not done again
        return given[0].sum() * len(counted) + len(given[0])

    results = [replayed("kind", work, [torch.full((2,), float(each))]) for each in range(8)]
    # Three times it is computed; what was counted at the fourth stays in the recording.
    assert [float(each) for each in results] == [2, 6, 14, 26, 34, 42, 50, 58] and len(counted) == BEFORE + 1
    for kind, size in (("kind", 3), ("another", 2)):
        assert float(replayed(kind, lambda given: given[0].sum(), [torch.ones(size)])) == size
    assert len(replayed._recorded) == 1


@GPU
@pytest.mark.parametrize("name", ["source-2012", "large-batch", "cifar-11pct"])
def test_on_a_gpu_a_replayed_step_leaves_the_bits_of_one_that_is_launched(dataset, tmp_path, monkeypatch, name):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    recipe, table = case(name)
    straight = begin(recipe, dataset, tmp_path / "straight", Watching(), table)
    straight.step.replayed = None
    assert not stopped(straight)
    run = begin(recipe, dataset, tmp_path / "run", Watching(), table)
    assert not stopped(run)
    assert run.display.said == [] and run.step.replayed._recorded
    assert differing(left(tmp_path / "straight"), left(tmp_path / "run")) == []
