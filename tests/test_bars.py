"""The bars of speed and memory, judged by the records that are published: what is asked of them stands in them."""

import json
from pathlib import Path

import pytest

from bars import BARS, BARS_ON_GPU, MEASURED, MEASURED_ON_GPU, Bar

RECORDS = Path(__file__).parents[1] / "benchmarks" / "records"
LIKE = {"training_step.py": "training-step-paper"}


@pytest.mark.parametrize("bar", BARS, ids=lambda bar: bar.what)
def test_its_record_has_the_figure(bar):
    known = [RECORDS / f"{bar.record}{ending}.json" for ending in ("", "-zen4")]
    judged = bar.judged(json.loads(next(file for file in known if file.exists()).read_text()))
    assert judged["seen"] >= 0 and bar.record in MEASURED


@pytest.mark.parametrize("bar", BARS_ON_GPU, ids=lambda bar: bar.what)
def test_on_a_gpu_a_benchmark_leaves_what_it_leaves_on_a_processor(bar):
    benchmark = MEASURED_ON_GPU[bar.record][0]
    file = LIKE.get(benchmark, benchmark.removesuffix(".py").replace("_", "-"))
    assert bar.judged(json.loads((RECORDS / f"{file}.json").read_text()))["seen"] >= 0


@pytest.mark.parametrize(
    ("seen", "most", "met"), [(2.0, False, True), (1.9, False, False), (2.0, True, True), (2.1, True, False)]
)
def test_it_is_met_at_least_or_at_most(seen, most, met):
    bar = Bar("", "", lambda record: record["it"], 2, most)
    assert bar.judged({"it": seen})["met"] == met and not bar.judged(None)["met"]


def test_a_processor_that_was_not_measured_in_bf16_has_not_met_its_bars():
    record = json.loads((RECORDS / "layers-zen3.json").read_text())
    judged = {bar.what: bar.judged(record) for bar in BARS if bar.record == "layers"}
    unseen = {what: one["met"] for what, one in judged.items() if one["seen"] is None}
    assert unseen == {"what follows conv1 in bfloat16, times stock": False}


def test_what_is_measured_is_asked_for_and_its_benchmark_is_there():
    for bars, measured in ((BARS, MEASURED), (BARS_ON_GPU, MEASURED_ON_GPU)):
        assert len({bar.what for bar in bars}) == len(bars)
        assert {bar.record for bar in bars} == measured.keys()
        assert all((RECORDS.parent / words[0]).exists() for words in measured.values())
