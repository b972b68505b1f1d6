"""The paper's own numbers hold in the lineage `paper`, and docs/paper.md names only what exists."""

import re
from dataclasses import replace
from math import prod
from pathlib import Path
from pkgutil import resolve_name

import numpy as np
import pytest
import torch

from alexnet.classifier import Classifier
from alexnet.data.augment import SPREAD, Images, drawn
from alexnet.data.statistics import Statistics
from alexnet.evaluation.views import views
from alexnet.network.alexnet import AlexNet
from alexnet.network.layers import Convolution, Dropout, FullyConnected, MaxPool, NormAcrossMaps, Normal
from alexnet.network.lineages import LINEAGES, PAPER
from alexnet.network.operations import operation
from alexnet.runtime.devices import Machine
from alexnet.training.recipes import RECIPES
from alexnet.training.schedule import DROPS

HOUSE = Path(__file__).parents[1]
TEXTS = [HOUSE / "docs" / name for name in ("paper.md", "disagreements.md")]
SYMBOL = re.compile(r"`(alexnet(?:\.\w+)+)`")
LEARNED = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")


def found(pattern: str | re.Pattern[str], *texts: Path) -> list[str]:
    return sorted({match for text in texts for match in re.findall(pattern, text.read_text("utf-8"))})


@pytest.mark.parametrize("symbol", found(SYMBOL, *TEXTS))
def test_every_symbol_exists(symbol: str) -> None:
    resolve_name(symbol)


@pytest.mark.parametrize("name", found(r"`(tests/[\w/]+\.py)`", *TEXTS))
def test_every_test_file_holds_tests(name: str) -> None:
    assert re.search(r"^\s*def test_", (HOUSE / name).read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.name)
def test_every_lineage_exists(text: Path) -> None:
    named = found(r"`((?:source-2012|cifar|caffe)[\w-]*)`", text)
    assert set(named) <= set(LINEAGES)


def test_every_sentence_of_the_system_has_a_symbol_and_a_test() -> None:
    system, not_yet = TEXTS[0].read_text("utf-8").split("## Not yet")
    rows = [line for line in system.splitlines() if line.startswith("| ") and "| symbol |" not in line]
    assert len(rows) > 40
    for row in rows:
        assert SYMBOL.search(row) and "`tests/" in row, row
    assert not SYMBOL.search(not_yet)


def test_disagreements_are_numbered_from_one() -> None:
    numbers = [int(number) for number in re.findall(r"^\| (\d+) \|", TEXTS[1].read_text("utf-8"), re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))


def test_sixty_million_parameters() -> None:
    assert sum(row.parameters for row in PAPER.table()) == 60_965_224


def test_six_hundred_and_fifty_thousand_neurons() -> None:
    neurons = {row.layer.name: row.neurons for row in PAPER.table() if row.layer.learns}
    # The paper prints 253,440 for the first; its own total fits 55 x 55 x 96.
    assert tuple(neurons.values()) == (290_400, 186_624, 64_896, 64_896, 43_264, 4096, 4096, 1000)
    assert tuple(neurons) == LEARNED
    assert sum(neurons.values()) == 659_272
    assert sum(row.neurons for row in PAPER.table()) == 659_272


def test_150528_values_enter() -> None:
    assert PAPER.input == (3, 224, 224)
    assert prod(PAPER.input) == 150_528


def test_section_3_5_kernels() -> None:
    with torch.device("meta"):
        shapes = {
            row.layer.name: tuple(operation(row.layer, row.input).weight.shape)
            for row in PAPER.table()
            if row.layer.learns
        }
    assert shapes == {
        "conv1": (96, 3, 11, 11),
        "conv2": (256, 48, 5, 5),
        "conv3": (384, 256, 3, 3),
        "conv4": (384, 192, 3, 3),
        "conv5": (256, 192, 3, 3),
        "fc6": (4096, 256 * 6 * 6),
        "fc7": (4096, 4096),
        "fc8": (1000, 4096),
    }
    strides = [layer.stride for layer in PAPER.layers if isinstance(layer, Convolution)]
    assert strides == [4, 1, 1, 1, 1]


def test_section_3_5_order() -> None:
    """Rectifiers behind all but the last; normalization in layers 1 and 2; pooling behind both and behind layer 5."""
    first_two = ["Convolution", "Rectifier", "NormAcrossMaps", "MaxPool"] * 2
    next_three = ["Convolution", "Rectifier"] * 3 + ["MaxPool"]
    hidden = ["FullyConnected", "Rectifier", "Dropout"] * 2
    kinds = [type(layer).__name__ for layer in PAPER.layers]
    assert kinds == [*first_two, *next_three, *hidden, "FullyConnected"]


def test_section_3_3_constants() -> None:
    norms = [layer for layer in PAPER.layers if isinstance(layer, NormAcrossMaps)]
    assert [(norm.k, norm.n, norm.alpha, norm.beta) for norm in norms] == [(2, 5, 1e-4, 0.75)] * 2


def test_section_3_4_windows_overlap() -> None:
    pools = [layer for layer in PAPER.layers if isinstance(layer, MaxPool)]
    assert [(pool.size, pool.stride) for pool in pools] == [(3, 2)] * 3


@pytest.mark.parametrize(("lineage", "variants"), [("paper", 2048), ("source-2012", 2178)])
def test_section_4_1_variants_of_a_picture(lineage: str, variants: int) -> None:
    images = replace(RECIPES[lineage].images, colour="none", patch_shared_by=1)
    nothing = Statistics(np.zeros((256, 256, 3), np.float32), np.zeros(3), np.eye(3))
    done = drawn(images, nothing, seed=0, epoch=0, count=100_000)
    assert done.corners.max() <= 256 - 224
    assert len(np.unique(np.column_stack([done.corners, done.mirrored]), axis=0)) == variants


def test_section_4_1_ten_views() -> None:
    corners = [(0, 0), (0, 32), (16, 16), (32, 0), (32, 32)]
    assert views(Images(), 10) == [(corner, mirrored) for mirrored in (False, True) for corner in corners]


def test_section_4_1_spread_of_colour_shifts() -> None:
    assert SPREAD == 0.1


def test_section_4_2_half_of_the_outputs() -> None:
    drops = [layer for layer in PAPER.layers if isinstance(layer, Dropout)]
    assert [(drop.keep, drop.rescaled) for drop in drops] == [(0.5, False)] * 2


def test_section_5_initial_values() -> None:
    learned = [layer for layer in PAPER.layers if isinstance(layer, Convolution | FullyConnected)]
    assert {layer.weight for layer in learned} == {Normal(0.01)}
    assert {layer.name for layer in learned if layer.bias == 1} == {"conv2", "conv4", "conv5", "fc6", "fc7"}
    assert {layer.name for layer in learned if layer.bias == 0} == {"conv1", "conv3", "fc8"}


def test_section_5_learning() -> None:
    learning = RECIPES["paper"].learning
    assert (learning.batch, learning.momentum, learning.decay) == (128, 0.9, 0.0005)
    assert (learning.rate, learning.bias_rate) == (0.01, 1)
    assert (learning.schedule, DROPS) == ("stall", 3)
    assert learning.epochs == 90


def test_section_6_1_five_most_probable_classes_and_the_code(finished_run: Path) -> None:
    classifier = Classifier.load(finished_run)
    classifier.machine = Machine(torch.device("cpu"), torch.float32, "for tests")
    classifier.network, classifier.classes = AlexNet("cifar-18pct", seed=1).eval(), tuple("abcdefghij")
    with torch.no_grad():
        for parameter in classifier.network.parameters():
            parameter.mul_(4)  # so that the classes lie apart
    picture = np.random.default_rng(2).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    image = torch.from_numpy(picture - classifier.statistics.mean).permute(2, 0, 1)[None]
    with torch.no_grad():
        activities = classifier.network.activations(image)
    shares = torch.softmax(activities["fc10"][0], 0)
    likeliest = shares.argsort(descending=True)[:5].tolist()

    best = classifier.classify(picture)
    assert [name for name, _ in best] == [classifier.classes[i] for i in likeliest]
    assert [share for _, share in best] == pytest.approx(shares[likeliest].tolist(), rel=1e-4)
    torch.testing.assert_close(classifier.code(picture), activities["pool3"].flatten(), rtol=1e-4, atol=1e-6)


def test_section_6_1_compares_4096_activities() -> None:
    (code,) = [row for row in PAPER.table() if row.layer.name == PAPER.code]
    assert prod(code.output) == 4096
    assert PAPER.code == PAPER.layers[-3].name  # behind the last hidden layer, before its dropout
