"""The report's figures: Figure 3 on one scale, curves from a journal."""

import base64
import io

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from alexnet.report.figures import curves, kernels, png

SIZE = 11


def test_each_tower_has_sixteen_kernels_a_row_with_black_gaps() -> None:
    weights = np.random.default_rng(0).normal(size=(96, 3, SIZE, SIZE)).astype(np.float32)
    towers = kernels(weights, towers=2)
    assert [tower.shape for tower in towers] == [(3 * (SIZE + 1) + 1, 16 * (SIZE + 1) + 1, 3)] * 2
    for tower in towers:
        assert not tower[:: SIZE + 1].any()
        assert not tower[:, :: SIZE + 1].any()


def test_one_scale_serves_all_kernels_of_both_towers() -> None:
    weights = np.zeros((4, 3, 2, 2), np.float32)
    weights[0, 0, 0, 0], weights[3, 2, 1, 1] = -1, 3
    a, b = kernels(weights, towers=2)
    assert a[1, 1].tolist() == [0, 64, 64]  # the minimum of all is black; 0 is a quarter of the way from -1 to 3
    assert b[2, 5].tolist() == [64, 64, 255]  # row 1, column 1 of the second kernel of tower b


def test_a_picture_survives_its_data_uri() -> None:
    from matplotlib import pyplot

    pixels = np.random.default_rng(1).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    encoded = png(pixels).removeprefix("data:image/png;base64,")
    again = pyplot.imread(io.BytesIO(base64.b64decode(encoded)))
    assert ((again[..., :3] * 255).round().astype(np.uint8) == pixels).all()


def test_the_same_journal_gives_the_same_drawing() -> None:
    events = [{"event": "training", "step": step, "loss": 1 / step} for step in range(1, 9)]
    events += [{"event": "judging", "epoch": epoch, "top1_error": 0.5 / epoch, "top5_error": 0.1} for epoch in (1, 2)]
    assert curves(events, 10) == curves(events, 10)
    assert curves(events, 10) != curves(events[:-1], 10)


def test_a_single_line_of_a_journal_can_be_seen() -> None:
    one = [{"event": "training", "step": 1, "loss": 2.0}]
    assert curves(one, 10).count("<use ") > curves([], 10).count("<use ")


def test_among_five_classes_top_5_is_not_drawn() -> None:
    events = [{"event": "judging", "epoch": epoch, "top1_error": 0.5, "top5_error": 0.0} for epoch in (1, 2)]
    assert "top-5" in curves(events, 6) and "top-5" not in curves(events, 5)
