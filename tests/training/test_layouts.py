"""Any layout of a run over processes learns the same, and goes on with what another one saved.

In float64, where roundings have not grown to anything after these few steps.
"""

import resource
import shutil
import weakref
from dataclasses import replace
from itertools import count

import pytest
import torch
import torch.distributed as dist
from resuming import Watching, begin, differing, left, stopped

from alexnet.data.augment import Images
from alexnet.data.presentation import Presentation
from alexnet.data.sources import open_dataset
from alexnet.kernels.compiled import AVAILABLE
from alexnet.kernels.update_by_factors import fits, move_by_factors
from alexnet.network import shares
from alexnet.network.factors import by_factors
from alexnet.network.layers import BatchNorm, FullyConnected
from alexnet.runtime import checkpoint
from alexnet.runtime.devices import Machine
from alexnet.runtime.errors import PeerError
from alexnet.runtime.pulse import at_work
from alexnet.runtime.ranks import ALONE
from alexnet.training import update
from alexnet.training.recipes import RECIPES
from company import Company, small, together

LAYOUTS = {"one": (1, 1), "two towers": (2, 2), "two shares": (2, 1), "two by two": (4, 2)}
HYBRIDS = {"hybrid": (2, 2), "two hybrids": (4, 2)}
STEPS, STOP = 8, 3  # four epochs of two; the second batch of each has one image, so that one of two shares is empty
FLOAT64 = Machine(torch.device("cpu"), torch.float64, "for comparison")


@pytest.fixture(scope="module")
def four_classes(pictures, tmp_path_factory):
    """Forty to learn from: two towers divide the classes, too."""
    root = shutil.copytree(pictures, tmp_path_factory.mktemp("data") / "colours")
    shutil.copytree(root / "red", root / "more red")
    return root


@pytest.fixture(scope="module")
def recipe():
    images = Images(side=107, patch=99, positions=9, patch_shared_by=3, colour="deviation")
    paper = RECIPES["paper"].altered({"learning.epochs": "4", "learning.batch": "39", "network.initial": "scaled"})
    return replace(paper, images=images)


@pytest.fixture(scope="module")
def large(recipe):
    """Batch normalization over groups of six of the 39: shares and portions are whole groups."""
    large = RECIPES["large-batch"].altered({
        "learning.epochs": "4", "learning.batch": "39", "learning.rate_for": "39", "parallel.portion": "0",
    })  # fmt: skip
    return replace(large, images=replace(recipe.images, scale=1 / 64))


def network_of(recipe):
    """Small; fc6 and fc7 wide enough that batches of 39 pass their factors, and normalized in sixes."""
    known = small(recipe.network.lineage)
    layers = []
    for layer in known.layers:
        if isinstance(layer, BatchNorm):
            layers.append(replace(layer, images=6))
        elif isinstance(layer, FullyConnected) and layer.outputs == 128:
            layers.append(replace(layer, outputs=256))
        else:
            layers.append(layer)
    return replace(known, layers=tuple(layers))


def learned(ranks, recipe, source, path, towers, stop, machine=FLOAT64):
    """Whether a run in `path` was stopped on the way: by a signal that one process got, the last."""
    ranks = ranks.divided(towers)
    display = Watching(stop if ranks.rank == ranks.world - 1 else 0)
    network = network_of(recipe)
    return stopped(begin(recipe, open_dataset(source), path, display, network, ranks, machine))


def run(layout, recipe, source, path, stop=0):
    world, over = (LAYOUTS | HYBRIDS)[layout]
    recipe = recipe.altered({"parallel.connected": str(over)}) if layout in HYBRIDS else recipe
    what = (recipe, str(source), path, over, stop)
    ends = [learned(ALONE, *what)] if world == 1 else together(world, learned, *what)
    assert ends == [bool(stop)] * world, "all stop at the same step, or none"
    return path


def test_some_layers_of_these_runs_pass_factors_and_some_gradients(recipe):
    table = network_of(recipe)
    assert [row.layer.name for row in table.table() if by_factors(row, recipe.learning.batch)] == ["fc6", "fc7"]


of_the_runs = pytest.mark.xdist_group("runs")  # in one process, which makes them once


@pytest.fixture(scope="module")
def runs(recipe, four_classes, tmp_path_factory):
    """Of each layout an undisturbed run, and one that was stopped after STOP steps."""
    folder = tmp_path_factory.mktemp("layouts")
    return {
        name: (
            run(name, recipe, four_classes, folder / f"{name} straight"),
            run(name, recipe, four_classes, folder / f"{name} stopped", STOP),
        )
        for name in LAYOUTS
    }


class Filling(Watching):
    """No file may be larger than `size`, until it is told of that."""

    def __init__(self, size):
        super().__init__()
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, self.before[1]))

    def say(self, text):
        super().say(text)
        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)


def learned_on_a_full_disk(ranks, recipe, source, path, towers, size):
    """What is said of it. The first rank's disk is full, for its first checkpoint."""
    ranks = ranks.divided(towers)
    display = Filling(size) if ranks.first else Watching()
    begin(recipe, open_dataset(source), path, display, network_of(recipe), ranks, FLOAT64).run()
    return display.said


def compare(one, other):
    """Two finished runs are the same but for rounding."""
    saved = [checkpoint.load(checkpoint.newest(path / "checkpoints")) for path in (one, other)]
    assert [each.state["step"] for each in saved] == [STEPS] * 2
    for kind in ("weights", "velocity"):
        for name, tensor in getattr(saved[0], kind).items():
            theirs = getattr(saved[1], kind)[name]
            assert float((tensor - theirs).norm() / tensor.norm()) < 1e-11, (kind, name)
    losses = [
        [event["loss"] for event in left(path)["events"] if event["event"] == "training"] for path in (one, other)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    assert saved[0].state["errors"] == saved[1].state["errors"]


@of_the_runs
@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "one"])
def test_every_layout_learns_what_one_process_does(runs, layout):
    compare(runs["one"][0], runs[layout][0])


@of_the_runs
@pytest.mark.parametrize("later", LAYOUTS)
@pytest.mark.parametrize("earlier", LAYOUTS)
def test_what_one_layout_saved_another_goes_on_with(runs, recipe, four_classes, tmp_path, earlier, later):
    straight, begun = runs[earlier]
    path = run(later, recipe, four_classes, shutil.copytree(begun, tmp_path / "run"))
    compare(straight, path)
    same_bits = differing(left(straight), left(path)) == []
    assert same_bits == (earlier == later), "to the bit within a layout, in another order across"


@of_the_runs
@pytest.mark.parametrize("share", [0.001, 0.4, 0.999])
@pytest.mark.parametrize("layout", ["two towers", "two by two"])
def test_a_disk_that_is_full_halfway_keeps_no_rank_waiting(runs, recipe, four_classes, tmp_path, layout, share):
    straight, (world, over) = runs[layout][0], LAYOUTS[layout]
    size = (checkpoint.newest(straight / "checkpoints") / checkpoint.WEIGHTS).stat().st_size
    what = recipe, str(four_classes), tmp_path / "run", over, int(share * size)
    (said,), *others = together(world, learned_on_a_full_disk, *what)
    assert "step-000000002: cannot write: file too large" in said and "the next save tries again" in said
    assert others == [[]] * (world - 1)
    assert differing(left(straight), left(tmp_path / "run")) == []


def learned_without_memory(recipe, source, path):
    """How it ends. The first rank cannot take the third piece that is sent to it: not what the disk refuses."""
    receive, number = dist.recv, count(1)

    def refused(tensor, **rest):
        if next(number) == 3:
            raise RuntimeError("no memory")
        receive(tensor, **rest)

    try:
        with at_work(print) as ranks:
            if ranks.first:
                dist.recv = refused
            learned(ranks, recipe, source, path, 2, 0)
    except (RuntimeError, PeerError) as error:
        return str(error)


def test_what_goes_wrong_between_the_ranks_in_a_save_ends_all_with_its_own_error(recipe, four_classes, tmp_path):
    first, other = Company(2, learned_without_memory, recipe, str(four_classes), tmp_path / "run").results()
    assert first == "no memory"
    assert other.startswith("ended with rank 0 (on ") and other.endswith("): RuntimeError('no memory')")


@of_the_runs
def test_what_float64_saved_float32_goes_on_with(runs, recipe, four_classes, tmp_path):
    path = shutil.copytree(runs["one"][1], tmp_path / "run")
    float32 = Machine(torch.device("cpu"), torch.float32, "for comparison")
    assert together(2, learned, recipe, str(four_classes), path, 2, 0, float32) == [False, False]
    saved = checkpoint.load(checkpoint.newest(path / "checkpoints"))
    assert {tensor.dtype for tensor in saved.weights.values()} == {torch.float32}
    straight = checkpoint.load(checkpoint.newest(runs["one"][0] / "checkpoints"))
    for name, tensor in straight.weights.items():
        assert float((tensor - saved.weights[name]).norm() / tensor.norm()) < 1e-2


@of_the_runs
@pytest.mark.parametrize("layout", ["one", "two shares", "two by two"])
def test_a_batch_in_portions_learns_what_the_whole_batch_does(runs, recipe, four_classes, tmp_path, layout):
    """Portions of 4 of 39 images, or of a share of them, the last one smaller."""
    path = run(layout, recipe.altered({"parallel.portion": "4"}), four_classes, tmp_path / "run")
    compare(runs["one"][0], path)
    assert differing(left(runs[layout][0]), left(path)) != [], "added up in another order"


@of_the_runs
@pytest.mark.parametrize("portion", ["0", "4"])
@pytest.mark.parametrize("layout", HYBRIDS)
def test_a_hybrid_learns_the_same_and_any_layout_goes_on_with_it(runs, recipe, four_classes, tmp_path, layout, portion):
    altered = recipe.altered({"parallel.portion": portion})
    straight = run(layout, altered, four_classes, tmp_path / "straight")
    compare(runs["one"][0], straight)
    begun = run(layout, altered, four_classes, tmp_path / "begun", STOP)
    compare(straight, run("two towers", recipe, four_classes, shutil.copytree(begun, tmp_path / "as towers")))
    again = run(layout, altered, four_classes, shutil.copytree(begun, tmp_path / "again"))
    assert differing(left(straight), left(again)) == []
    compare(straight, run(layout, altered, four_classes, shutil.copytree(runs["one"][1], tmp_path / "of one")))


@pytest.mark.parametrize("layout", [name for name in (*LAYOUTS, *HYBRIDS) if name != "one"])
def test_batch_normalization_and_lars_do_not_know_the_layout(large, four_classes, tmp_path, layout):
    """Straight; and stopped, gone on with by one process, in portions of two groups."""
    one = run("one", large, four_classes, tmp_path / "one")
    compare(one, run(layout, large, four_classes, tmp_path / "straight"))
    begun = run(layout, large, four_classes, tmp_path / "begun", STOP)
    compare(one, run("one", large.altered({"parallel.portion": "12"}), four_classes, begun))
    saved = checkpoint.load(checkpoint.newest(one / "checkpoints"))
    assert {"bn2.mean", "bn5.variance"} <= set(saved.weights) and "bn2.mean" not in saved.velocity


@pytest.mark.skipif(not AVAILABLE, reason="Numba is not installed or switched off")
@pytest.mark.parametrize("portion", ["0", "4"])
@pytest.mark.parametrize(("products", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_one_process_learns_by_factors_what_it_does_by_gradients(
    recipe, four_classes, tmp_path, monkeypatch, products, bound, portion
):
    moved, ends = [], []
    monkeypatch.setattr(update, "move_by_factors", lambda *given: moved.append(given) or move_by_factors(*given))
    for fitting in (fits, lambda weight: False):
        monkeypatch.setattr(shares, "fits", fitting)
        machine, path = Machine(torch.device("cpu"), products, "for comparison"), tmp_path / str(len(ends))
        learned(ALONE, recipe.altered({"parallel.portion": portion}), str(four_classes), path, 1, 0, machine)
        ends.append(checkpoint.load(checkpoint.newest(path / "checkpoints")).velocity)
    assert len(moved) == (2 * STEPS if fits(torch.empty(1, 16, dtype=products)) else 0), "fc6 and fc7, by factors only"
    for name, own in ends[0].items():
        assert (own - ends[1][name]).norm() < bound * own.norm(), name


@pytest.mark.skipif(not AVAILABLE, reason="Numba is not installed or switched off")
def test_a_step_holds_no_images_behind_the_first_layer(recipe, four_classes, tmp_path, monkeypatch):
    """Of the paper's network, whose first layer computes with blocks of pixels and keeps these."""
    made, computed = [], Presentation.computed
    monkeypatch.setattr(Presentation, "computed", lambda *given: made.append(computed(*given)) or made[-1])
    machine, there = Machine(torch.device("cpu"), torch.float32, "for comparison"), []
    source = open_dataset(str(four_classes))
    run = begin(recipe, source, tmp_path / "run", Watching(1), network_of(recipe), machine=machine)

    def look(*_):
        made[:] = [weakref.ref(each) if isinstance(each, torch.Tensor) else each for each in made]
        there.append(made[-1]() is not None)

    run.network.get_submodule("fc6").register_forward_pre_hook(look)
    assert stopped(run) and there and not any(there)
