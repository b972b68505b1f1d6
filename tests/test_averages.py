"""Several runs judged together: the average of what they say, of the same classes."""

import json

import pytest
import torch
from safetensors.torch import load_file

from alexnet.evaluation.predictions import Predictions
from alexnet.runtime import checkpoint
from alexnet.runtime.run_folder import RunFolder
from company import stream_of


def said_last(ended):
    assert ended.code == 0, ended.err
    return json.loads(ended.out.splitlines()[-1])


def test_several_runs_are_judged_by_their_average(alexnet, two, pictures):
    json_line = said_last(alexnet("evaluate", *two, pictures, "--json"))
    assert [each["run"] for each in json_line["runs"]] == [str(run) for run in two]
    assert [each["top1_error"] for each in json_line["runs"]] == pytest.approx([0, 2 / 3])
    good, poor = (load_file(next((run / "predictions").iterdir())) for run in two)
    average = (good["probabilities"].double() + poor["probabilities"].double()) / 2
    wrong = (average.argmax(1) != good["labels"]).double().mean().item()
    assert json_line["top1_error"] == pytest.approx(wrong)
    assert "average of 2 runs: error" in alexnet("evaluate", *two, pictures).out


@pytest.mark.parametrize(("weights", "like"), [("1,0", 0), ("0,2.5", 1), ("1e-6,1", 1)])
def test_an_averages_weights_decide_who_counts(alexnet, two, pictures, weights, like):
    json_line = said_last(alexnet("evaluate", *two, pictures, "--weights", weights, "--json"))
    assert json_line["top1_error"] == pytest.approx(json_line["runs"][like]["top1_error"])
    assert json_line["runs"][0]["top1_error"] != json_line["runs"][1]["top1_error"]


def test_runs_of_other_classes_have_no_average(alexnet, two, own_pictures, pictures):
    RunFolder(two[1]).write_json("classes.json", ["blue", "red", "grey"])
    message = alexnet("evaluate", *two, pictures).one_line("evaluate", 3)
    assert f"{two[1]}: learned other classes than {two[0]}; " in message


def test_an_average_is_of_the_same_classes_whatever_their_order(alexnet, two, pictures):
    """The second run knows them by other numbers from here on, and its last layer's units lie so."""
    expected = said_last(alexnet("evaluate", *two, pictures, "--json"))
    order = [2, 0, 1]
    names = RunFolder(two[1]).classes()
    RunFolder(two[1]).write_json("classes.json", [names[number] for number in order])
    newest = checkpoint.newest(two[1] / "checkpoints")
    saved = checkpoint.load(newest)
    state = {name: stream_of({key: each[order] if key.startswith("fc10") else each for key, each in of.items()})
             for name, of in (("weights", saved.weights), ("velocity", saved.velocity))}  # fmt: skip
    checkpoint.save(newest.parent, saved.state["step"], state["weights"], state["velocity"], saved.state)
    found = said_last(alexnet("evaluate", *two, pictures, "--json"))
    assert found == expected and 0 < found["runs"][1]["top1_error"] < 1


def test_weights_of_an_average_that_add_up_to_no_number_are_refused(alexnet, two, pictures):
    for weights in ("1e308,1e308", "nan,1", "inf,1", "-1,2", "0,0"):
        assert "--weights" in alexnet("evaluate", *two, pictures, "--weights", weights).one_line("evaluate", 2)


def test_classes_are_numbered_anew_and_in_their_own_order_nothing_is_copied():
    known = Predictions(torch.tensor([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]]), torch.tensor([2, 1]), 1)
    assert known.in_order([0, 1, 2]) is known
    anew = known.in_order([2, 0, 1])
    assert anew.labels.tolist() == [0, 2] and torch.equal(anew.probabilities, known.probabilities[:, [2, 0, 1]])
    assert anew.errors() == known.errors()
