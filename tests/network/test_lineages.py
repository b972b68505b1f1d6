"""Section 3.5: every lineage's layers, sizes, parameters, multiply-adds, neurons, against numbers worked out apart."""

from dataclasses import replace

import pytest
import torch

from alexnet.network.alexnet import AlexNet
from alexnet.network.cifar import CIFAR_18
from alexnet.network.layers import (
    Convolution,
    FanIn,
    FullyConnected,
    Layer,
    MaxPool,
    NormAcrossMaps,
    Normal,
    NormWithinMap,
    table,
)
from alexnet.network.lineages import LINEAGES, PAPER, SOURCE_2012, Lineage, lineage
from alexnet.network.operations import operation
from alexnet.network.scaling import scaled
from alexnet.runtime.errors import UsageError

TOTALS = {  # parameters, multiply-adds, neurons
    "paper": (60_965_224, 724_406_816, 659_272),
    "source-2012": (60_965_224, 724_406_816, 659_272),
    "source-2012-half": (59_798_312, 391_514_384, 355_864),
    "source-2012-conv6": (61_555_304, 745_640_480, 668_488),
    "source-2012-no-overlap": (60_965_224, 655_041_056, 614_984),
    "source-2012-no-norm": (60_965_224, 724_406_816, 659_272),
    "caffe": (60_965_224, 724_406_816, 659_272),
    "caffenet": (60_965_224, 724_406_816, 659_272),
    "one-weird-trick": (61_100_840, 714_188_480, 494_184),
    "large-batch": (60_965_224, 724_406_816, 659_272),
    "cifar-80sec": (145_578, 12_354_176, 32 * 1024 + 32 * 256 + 64 * 64 + 64 + 10),
    "cifar-18pct": (89_578, 12_298_240, 32 * 1024 + 32 * 256 + 64 * 64 + 10),
    "cifar-13pct": (1_116_490, 18_517_248, 64 * 576 + 64 * 144 + 2 * 32 * 36 + 10),
    "cifar-11pct": (2_112_970, 19_512_576, 64 * 576 + 64 * 144 + (64 + 32) * 36 + 10),
}
TWO_TOWERS = [34_944, 307_456, 885_120, 663_936, 442_624, 37_752_832, 16_781_312, 4_097_000]
PARAMETERS = {
    "paper": TWO_TOWERS,
    "source-2012": TWO_TOWERS,
    "source-2012-half": [17_472, 153_728, 221_376, 331_968, 442_624, 37_752_832, 16_781_312, 4_097_000],
    "source-2012-conv6": [*TWO_TOWERS[:5], 590_080, *TWO_TOWERS[5:]],
    "source-2012-no-overlap": TWO_TOWERS,
    "source-2012-no-norm": TWO_TOWERS,
    "caffe": TWO_TOWERS,
    "caffenet": TWO_TOWERS,
    "large-batch": TWO_TOWERS,
    "one-weird-trick": [23_296, 307_392, 663_936, 884_992, 590_080, 37_752_832, 16_781_312, 4_097_000],
    "cifar-80sec": [2_432, 25_632, 51_264, 65_600, 650],
    "cifar-18pct": [2_432, 25_632, 51_264, 10_250],
    "cifar-13pct": [4_864, 102_464, 664_704, 332_928, 11_530],
    "cifar-11pct": [4_864, 102_464, 1_329_408, 664_704, 11_530],
}
# maps and side of what leaves every convolution and pooling, in order
WIDE = [(96, 55), (96, 27), (256, 27), (256, 13), (384, 13), (384, 13), (256, 13), (256, 6)]
LOCAL = [(64, 24), (64, 12), (64, 12), (64, 6)]
SIZES = {
    **dict.fromkeys(("paper", "source-2012", "source-2012-no-norm", "caffe", "caffenet", "large-batch"), WIDE),
    "source-2012-half": [(48, 55), (48, 27), (128, 27), (128, 13), (192, 13), (192, 13), (256, 13), (256, 6)],
    "source-2012-conv6": [*WIDE, (256, 6)],
    "source-2012-no-overlap": [(96, 55), (96, 28), (256, 26), (256, 13), (384, 13), (384, 11), (256, 11), (256, 6)],
    "one-weird-trick": [(64, 55), (64, 27), (192, 27), (192, 13), (384, 13), (256, 13), (256, 13), (256, 6)],
    "cifar-80sec": [(32, 32), (32, 16), (32, 16), (32, 8), (64, 8), (64, 4)],
    "cifar-18pct": [(32, 32), (32, 16), (32, 16), (32, 8), (64, 8), (64, 4)],
    "cifar-13pct": [*LOCAL, (32, 6), (32, 6)],
    "cifar-11pct": [*LOCAL, (64, 6), (32, 6)],
}
ORDER = {  # up to the last pooling; c convolution, r rectifier
    "paper": "c1 r1 norm1 pool1 c2 r2 norm2 pool2 c3 r3 c4 r4 c5 r5 pool5",
    "source-2012": "c1 norm1 pool1 r1 c2 r2 norm2 norm2b pool2 c3 r3 c4 r4 c5 pool5 r5",
    "source-2012-half": "c1 norm1 pool1 r1 c2 r2 norm2 norm2b pool2 c3 r3 c4 r4 c5 pool5 r5",
    "source-2012-conv6": "c1 norm1 pool1 r1 c2 r2 norm2 norm2b pool2 c3 r3 c4 r4 c5 pool5 r5 c6 r_c6",
    "source-2012-no-overlap": "c1 norm1 pool1 r1 c2 r2 norm2 norm2b pool2 c3 r3 c4 r4 c5 pool5 r5",
    "source-2012-no-norm": "c1 pool1 r1 c2 r2 pool2 c3 r3 c4 r4 c5 pool5 r5",
    "caffe": "c1 r1 norm1 pool1 c2 r2 norm2 pool2 c3 r3 c4 r4 c5 r5 pool5",
    "caffenet": "c1 r1 pool1 norm1 c2 r2 pool2 norm2 c3 r3 c4 r4 c5 r5 pool5",
    "large-batch": "c1 r1 pool1 bn2 c2 r2 pool2 bn3 c3 r3 bn4 c4 r4 bn5 c5 r5 pool5",
    "one-weird-trick": "c1 r1 pool1 c2 r2 pool2 c3 r3 c4 r4 c5 r5 pool5 drop5",
}
PLAIN_01 = [Normal(0.01)] * 8
AS_RUN_STARTS = [Normal(0.01)] * 2 + [Normal(0.03)] * 3 + [Normal(0.01)] * 3
CAFFE_STARTS = [Normal(0.01)] * 5 + [Normal(0.005)] * 2 + [Normal(0.01)]
LOCAL_STARTS = [Normal(0.0001), Normal(0.01), Normal(0.04), Normal(0.04), Normal(0.01)]
ONES = [0, 1, 0, 1, 1, 1, 1, 0]
TENTHS = [0, 0.1, 0, 0.1, 0.1, 0.1, 0.1, 0]
STARTS = {  # weights, biases
    "paper": (PLAIN_01, ONES),
    **dict.fromkeys(
        ("source-2012", "source-2012-half", "source-2012-no-overlap", "source-2012-no-norm"), (AS_RUN_STARTS, ONES)
    ),
    "source-2012-conv6": ([*AS_RUN_STARTS[:5], Normal(0.03), *AS_RUN_STARTS[5:]], [0, 1, 0, 1, 1, 1, 1, 1, 0]),
    "caffe": (CAFFE_STARTS, TENTHS),
    "caffenet": (CAFFE_STARTS, ONES),
    "large-batch": (CAFFE_STARTS, [0.01] * 5 + [0.1] * 2 + [0.01]),
    "cifar-80sec": ([Normal(0.0001), Normal(0.01), Normal(0.01), Normal(0.1), Normal(0.1)], [0] * 5),
    "cifar-18pct": ([Normal(0.0001), Normal(0.01), Normal(0.01), Normal(0.01)], [0] * 4),
    "cifar-13pct": (LOCAL_STARTS, [0] * 5),
    "cifar-11pct": (LOCAL_STARTS, [0] * 5),
}
AS_RUN, IN_CAFFE = (5, 2, pytest.approx(2e-5), 0.75), (5, 1, pytest.approx(2e-5), 0.75)
NORMS = {  # of each norm across maps: n, k, alpha before the plain sum, beta; and towers
    "paper": [(5, 2, 1e-4, 0.75, 2)] * 2,
    "source-2012": [(*AS_RUN, 2)] * 2,
    "source-2012-half": [(*AS_RUN, 1)] * 2,
    "source-2012-conv6": [(*AS_RUN, 2)] * 2,
    "source-2012-no-overlap": [(*AS_RUN, 2)] * 2,
    "caffe": [(*IN_CAFFE, 1)] * 2,
    "caffenet": [(*IN_CAFFE, 1)] * 2,
    "cifar-11pct": [(9, 1, pytest.approx(0.001 / 9), 0.75, 1)] * 2,
}
PATCH = (5, 1, pytest.approx(0.001 / 25), 0.75)
PATCH_NORMS = {  # of each norm within a map: size, k, alpha before the plain sum, beta
    "source-2012": [PATCH],
    "source-2012-half": [PATCH],
    "source-2012-conv6": [PATCH],
    "source-2012-no-overlap": [PATCH],
    "cifar-18pct": [(3, 1, pytest.approx(5e-5 / 9), 0.75)] * 2,
}
EVERY = pytest.mark.parametrize("name", LINEAGES)


def learned(name: str) -> list[Layer]:
    return [layer for layer in LINEAGES[name].layers if layer.learns]


def sums(rows) -> tuple[int, int, int]:
    return sum(row.parameters for row in rows), sum(row.multiply_adds for row in rows), sum(row.neurons for row in rows)


def test_these_are_all_the_lineages():
    assert list(LINEAGES) == list(TOTALS)
    assert all(lineage(name) is LINEAGES[name] and LINEAGES[name].name == name for name in TOTALS)


@EVERY
def test_parameters_multiply_adds_and_neurons_add_up(name):
    assert sums(LINEAGES[name].table()) == TOTALS[name]


@EVERY
def test_every_layer_has_its_parameters(name):
    assert [row.parameters for row in LINEAGES[name].table() if row.layer.learns] == PARAMETERS[name]


@EVERY
def test_every_convolution_and_pooling_has_its_size(name):
    spatial = [
        row.output for row in LINEAGES[name].table() if isinstance(row.layer, Convolution) or "pool" in row.layer.name
    ]
    assert spatial == [(maps, side, side) for maps, side in SIZES[name]]


@EVERY
def test_what_the_table_says_is_what_pytorch_computes(name):
    for row in LINEAGES[name].table():
        with torch.device("meta" if row.layer.learns else "cpu"):  # "meta": shapes without numbers
            module = operation(row.layer, row.input)
            x = torch.empty(2, *row.input)
            result = module(x.flatten(1) if row.input[1:] == (1, 1) else x)
        height_and_width = () if row.output[1:] == (1, 1) else row.output[1:]
        assert result.shape == (2, row.output[0], *height_and_width), row.layer.name
        assert sum(parameter.numel() for parameter in module.parameters()) == row.parameters, row.layer.name


def test_the_papers_table_is_the_one_worked_out_by_hand():
    rows = {row.layer.name: (row.weights, row.biases, row.multiply_adds, row.neurons) for row in PAPER.table()}
    assert {name: row for name, row in rows.items() if any(row)} == {
        "conv1": (34_848, 96, 105_415_200, 290_400),
        "conv2": (307_200, 256, 223_948_800, 186_624),
        "conv3": (884_736, 384, 149_520_384, 64_896),
        "conv4": (663_552, 384, 112_140_288, 64_896),
        "conv5": (442_368, 256, 74_760_192, 43_264),
        "fc6": (37_748_736, 4096, 37_748_736, 4096),
        "fc7": (16_777_216, 4096, 16_777_216, 4096),
        "fc8": (4_096_000, 1000, 4_096_000, 1000),
    }


def test_the_two_cards_of_2012_hold_the_parameters_that_were_counted():
    fc8 = PAPER.table()[-1].parameters  # whole on the first card; everything else is halved
    shared = sums(PAPER.table()[:-1])[0]
    assert (shared // 2 + fc8, shared // 2, shared % 2) == (32_531_112, 28_434_112, 0)


def test_the_layer_table_counts_networks_that_are_no_lineage_too():
    def changed(**fields):
        return tuple(replace(layer, **fields) if isinstance(layer, Convolution) else layer for layer in PAPER.layers)

    assert sums(table(changed(groups=1), PAPER.input)) == (62_378_344, 1_135_256_096, 659_272)  # "merged"
    without_overhang = (replace(PAPER.layers[0], pad=(0, 0)), *PAPER.layers[1:])
    assert sums(table(without_overhang, PAPER.input)) == (60_965_224, 720_608_384, 648_808)
    widths = {"conv1": 48, "conv2": 128, "conv3": 192, "conv4": 192, "conv5": 128, "fc6": 2048, "fc7": 2048}
    one_tower = tuple(
        replace(layer, kernels=widths[layer.name], groups=1)
        if isinstance(layer, Convolution)
        else replace(layer, outputs=widths.get(layer.name, 1000))
        if isinstance(layer, FullyConnected)
        else layer
        for layer in PAPER.layers
    )
    assert sums(table(one_tower, PAPER.input)) == (16_630_440, 311_191_824, 330_136)
    assert sums(table(CIFAR_18, (3, 24, 24)))[:2] == (85_098, 6_917_760)


@pytest.mark.parametrize("name", ORDER)
def test_layers_stand_in_the_order_of_their_sources(name):
    words = [layer.name.replace("conv", "c").replace("relu", "r") for layer in LINEAGES[name].layers]
    head = f"fc6 r6 drop6 fc7 r7 {'' if name == 'one-weird-trick' else 'drop7 '}fc8"
    assert " ".join(words) == f"{ORDER[name]} {head}"


@EVERY
def test_normalization_has_the_constants_of_its_sources(name):
    layers = LINEAGES[name].layers
    across = [
        (each.n, each.k, each.alpha, each.beta, each.towers) for each in layers if isinstance(each, NormAcrossMaps)
    ]
    within = [(each.size, each.k, each.alpha, each.beta) for each in layers if isinstance(each, NormWithinMap)]
    assert (across, within) == (NORMS.get(name, []), PATCH_NORMS.get(name, []))


@EVERY
def test_pooling_windows_overlap_except_where_they_were_made_not_to(name):
    pools = {(layer.size, layer.stride) for layer in LINEAGES[name].layers if isinstance(layer, MaxPool)}
    assert pools == {(2, 2) if name == "source-2012-no-overlap" else (3, 2)}


@pytest.mark.parametrize("name", STARTS)
def test_initial_weights_and_biases_are_those_of_the_sources(name):
    assert ([layer.weight for layer in learned(name)], [layer.bias for layer in learned(name)]) == STARTS[name]


def test_the_one_weird_trick_starts_with_pytorchs_own_values():
    assert [layer.weight for layer in learned("one-weird-trick")] == [FanIn()] * 8


def test_the_scaled_start_keeps_the_signals_size_and_nothing_else_changes():
    at_once = scaled(SOURCE_2012)
    deviations = [layer.weight.deviation for layer in at_once.layers if layer.learns]
    fan_ins = [3 * 121, 48 * 25, 256 * 9, 192 * 9, 192 * 9, 9216, 4096]
    gains = [1, 2**0.75, 2**0.75, 1, 1, 1, 1]  # what the norm before a layer divides small activities by
    he = [pytest.approx(gain * (2 / fan_in) ** 0.5) for gain, fan_in in zip(gains, fan_ins, strict=True)]
    assert deviations == [*he, 0.001]
    assert [layer.bias for layer in at_once.layers if layer.learns] == [0] * 8
    assert [type(layer) for layer in at_once.layers] == [type(layer) for layer in SOURCE_2012.layers]


@EVERY
def test_another_number_of_classes_changes_the_last_layer_only(name):
    before, after = LINEAGES[name], LINEAGES[name].with_classes(7)
    assert after.classes == 7
    assert after.layers[:-1] == before.layers[:-1]
    assert after.layers[-1].weight == before.layers[-1].weight
    assert before.classes == (10 if name.startswith("cifar") else 1000)


@EVERY
def test_the_code_is_the_last_hidden_layers_output(name):
    rows = LINEAGES[name].table()
    index = [row.layer.name for row in rows].index(LINEAGES[name].code)
    assert not any(row.layer.learns for row in rows[index:-1])
    hidden = {
        "cifar-80sec": (64, 1, 1),
        "cifar-18pct": (64, 4, 4),
        "cifar-13pct": (32, 6, 6),
        "cifar-11pct": (32, 6, 6),
    }
    assert rows[index].output == hidden.get(name, (4096, 1, 1))


@EVERY
def test_names_of_layers_are_unique(name):
    names = [layer.name for layer in LINEAGES[name].layers]
    assert len(set(names)) == len(names)


def test_an_unknown_lineage_is_refused_with_the_nearest_one():
    with pytest.raises(UsageError, match=r"^sauce-2012: no such lineage; did you mean source-2012\?$"):
        lineage("sauce-2012")
    with pytest.raises(UsageError, match="zzz: no such lineage; there are paper, source-2012, "):
        lineage("zzz")


def test_a_descendant_may_only_replace_layers_that_exist():
    with pytest.raises(AssertionError, match="conv9"):
        PAPER.replacing("other", "with a slip", conv9=())
    assert len(PAPER.replacing("other", "without its first norm", norm1=()).layers) == len(PAPER.layers) - 1


def test_maps_that_towers_cannot_share_are_refused():
    layers = Convolution("conv1", 33, 3), NormAcrossMaps("norm1"), FullyConnected("fc2", 2)
    with pytest.raises(UsageError, match=r"^norm1: 33 maps; give as many to each of its 2 towers$"):
        AlexNet(Lineage("odd", "", side=9, towers=2, layers=layers, code="norm1"))
