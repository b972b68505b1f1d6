"""Runs from the command line: begun, judged, resumed, and what a person can do wrong with one."""

import json
import shutil
from hashlib import sha256

import pytest
import torch
from safetensors.torch import save_file

from alexnet.network.alexnet import AlexNet
from alexnet.runtime import checkpoint
from alexnet.runtime.checkpoint import WEIGHTS
from company import stream_of

SMALL = ("--recipe", "cifar-18pct", "--learning.epochs", "2", "--learning.batch", "8")


def test_trains_last_line_is_json_and_the_run_says_the_same(alexnet, pictures, tmp_path):
    run = tmp_path / "run"
    ended = alexnet("train", pictures, *SMALL, "--run", run, "--json", "--quiet")
    assert ended.code == 0, ended.err
    told = json.loads(ended.out.splitlines()[-1])
    assert told == json.loads((run / "result.json").read_text())
    assert {"run", "top1_error", "top5_error", "images_per_second"} <= set(told)
    assert told["run"] == str(run) and told["top1_error"] < 0.5 and told["top5_error"] == 0
    kinds = {}
    for line in (run / "journal.jsonl").read_text().splitlines():
        event = json.loads(line)
        kinds.setdefault(event["event"], set()).update(event)
    assert {"epoch", "step", "loss", "images_per_second", "wait_seconds"} <= kinds["training"]
    assert {"epoch", "top1_error", "top5_error"} <= kinds["judging"]
    assert {"recipe.json", "environment.json", "checkpoints"} <= {path.name for path in run.iterdir()}


def test_a_finished_run_is_left_as_it_is(alexnet, pictures, own_run):
    before = {path: path.stat().st_mtime_ns for path in own_run.rglob("*") if path.name not in (".lock", "report.html")}
    ended = alexnet("train", pictures, *SMALL, "--run", own_run, "--resume", "--json")
    assert ended.code == 0 and f"{own_run}: complete already" in ended.err
    assert json.loads(ended.out.splitlines()[-1]) == json.loads((own_run / "result.json").read_text()) | {
        "run": str(own_run)
    }
    after = {path: path.stat().st_mtime_ns for path in before}
    assert {path for path in before if path.is_file() and before[path] != after[path]} == set()


def test_a_run_is_not_begun_over_another(alexnet, pictures, own_run):
    message = alexnet("train", pictures, *SMALL, "--run", own_run).one_line("train", 3)
    assert message.startswith(f"{own_run}: holds a run already; --resume")


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--learning.rate", "0.5"], "learning.rate"),
        (["--seed", "5"], "seed"),
        (["--recipe", "cifar-80sec"], "network.lineage"),
    ],
)
def test_a_run_is_not_resumed_with_another_recipe(alexnet, pictures, own_run, more, named):
    message = alexnet("train", pictures, *SMALL, "--run", own_run, "--resume", *more).one_line("train", 3)
    assert message.startswith(f"{own_run}: was begun with another recipe (") and named in message


def test_a_run_goes_on_with_its_own_recipe_where_none_is_named(alexnet, pictures, own_run):
    assert alexnet("train", pictures, "--run", own_run, "--resume").code == 0
    assert alexnet("train", pictures, "--run", own_run, "--resume", "--learning.epochs", "2").code == 0
    message = alexnet("train", pictures, "--run", own_run, "--resume", "--learning.epochs", "3").one_line("train", 3)
    assert message.startswith(f"{own_run}: was begun with another recipe (learning.epochs differ)")
    alexnet("train", pictures, "--run", own_run, "--resume", "--recipe", "default").one_line("train", 3)


def test_a_run_is_not_resumed_with_other_pictures_but_with_the_same_in_another_place(alexnet, own_pictures, own_run):
    assert alexnet("train", own_pictures, *SMALL, "--run", own_run, "--resume").code == 0
    shutil.copy(own_pictures / "red" / "00.jpg", own_pictures / "red" / "99.jpg")
    message = alexnet("train", own_pictures, *SMALL, "--run", own_run, "--resume").one_line("train", 3)
    assert message.startswith(f"{own_run}: was begun with other pictures or classes; ")


def test_where_there_is_no_run_there_is_nothing_to_resume(alexnet, pictures, tmp_path):
    message = alexnet("train", pictures, *SMALL, "--run", tmp_path / "none", "--resume").one_line("train", 3)
    assert message.startswith(f"{tmp_path / 'none'}: no run to resume; ")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/alexnet/run", "x" * 300])
def test_a_place_where_no_run_can_be_is_told_before_any_learning(alexnet, pictures, tmp_path, place):
    (tmp_path / "file").write_text("in the way")
    ended = alexnet("train", pictures, *SMALL, "--run", tmp_path / place)
    message = ended.one_line("train", 3 if place == "file" else 4)
    assert message.startswith(f"{tmp_path / place}: ") and "; " in message


def test_a_run_whose_newest_checkpoint_is_damaged_goes_on_from_the_one_before_with_a_word(alexnet, pictures, own_run):
    result = json.loads((own_run / "result.json").read_text())
    (own_run / "result.json").unlink()
    before = checkpoint.load(own_run / "checkpoints" / "step-000000008")
    (own_run / "checkpoints" / "step-000000008" / "velocity.safetensors").write_bytes(b"damaged")
    ended = alexnet("train", pictures, *SMALL, "--quiet", "--run", own_run, "--resume", "--json")
    assert ended.code == 0, ended.err
    told = [line for line in ended.err.splitlines() if "damaged" in line]
    assert len(told) == 1 and "step-000000008/velocity.safetensors" in told[0] and "checkpoint before it" in told[0]
    after = checkpoint.load(own_run / "checkpoints" / "step-000000008")
    assert all(torch.equal(after.weights[name], before.weights[name]) for name in before.weights)
    assert json.loads(ended.out.splitlines()[-1])["top1_error"] == result["top1_error"]


def other_weights(run, lineage):
    """Give the run's newest checkpoint another lineage's weights, with right digests: the wrong file, undamaged."""
    newest = checkpoint.newest(run / "checkpoints")
    saved = checkpoint.load(newest)
    weights = dict(AlexNet(lineage, classes=3).state_dict())
    velocity = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
    shutil.rmtree(run / "checkpoints")
    streams = stream_of(weights), stream_of(velocity)
    checkpoint.save(run / "checkpoints", int(newest.name[5:]), *streams, saved.state)


@pytest.mark.parametrize("lineage", ["cifar-80sec", "cifar-13pct"])
def test_weights_of_another_network_are_refused_by_name(alexnet, pictures, own_run, lineage):
    other_weights(own_run, lineage)
    (own_run / "result.json").unlink()
    picture = pictures / "red" / "00.jpg"
    for verb, words in (
        ("classify", [own_run, picture]),
        ("evaluate", [own_run, pictures]),
        ("train", [pictures, *SMALL, "--quiet", "--run", own_run, "--resume"]),
    ):
        message = alexnet(verb, *words).one_line(verb, 3)
        assert "step-000000008" in message and "another network" in message and "; " in message


@pytest.mark.parametrize("kind", ["weights", "velocity"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors.update({"conv1.bias": tensors["conv1.bias"][:1]}), "conv1.bias is (1,), cifar-18pct"),
        (lambda tensors: tensors.update({"conv0.bias": tensors["conv1.bias"]}), "conv0.bias is (32,), cifar-18pct"),
        (lambda tensors: tensors.pop("conv1.bias"), "conv1.bias is nothing, cifar-18pct"),
    ],
)
def test_a_checkpoint_with_a_tensor_of_another_shape_is_refused_by_the_files_name(
    alexnet, pictures, own_run, kind, change, said
):
    path = own_run / "checkpoints" / "step-000000008"
    saved = checkpoint.load(path)
    change(getattr(saved, kind))
    shutil.rmtree(path)
    checkpoint.save(path.parent, 8, stream_of(saved.weights), stream_of(saved.velocity), saved.state)
    (own_run / "result.json").unlink()
    message = alexnet("train", pictures, *SMALL, "--quiet", "--run", own_run, "--resume").one_line("train", 3)
    assert f"{path / kind}.safetensors: weights of another network ({said}" in message


def test_weights_that_are_no_floats_are_refused(alexnet, pictures, own_run):
    path = own_run / "checkpoints" / "step-000000008"
    weights = checkpoint.load(path).weights
    save_file({name: tensor.long() if "bias" in name else tensor for name, tensor in weights.items()}, path / WEIGHTS)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["sha256"][WEIGHTS] = sha256((path / WEIGHTS).read_bytes()).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest))
    message = alexnet("classify", own_run, pictures / "red" / "00.jpg").one_line("classify", 3)
    assert "bias holds values that are not finite numbers" in message


def test_a_run_goes_on_with_a_number_of_its_own_schedule_named_again(alexnet, pictures, tmp_path):
    words = [pictures, "--quiet", "--run", tmp_path / "run", "--learning.patience", 2]
    refused = alexnet("train", *words, *SMALL).one_line("train", 2)
    assert refused.startswith("--learning.patience: the schedule stall looks at it, and this run's is fixed; ")
    assert alexnet("train", *words, *SMALL, "--learning.schedule", "stall").code == 0
    (tmp_path / "run" / "result.json").unlink()
    assert alexnet("train", *words, "--resume").code == 0


def test_a_run_goes_on_with_numbers_of_its_own_that_another_recipe_could_not_have(alexnet, pictures, tmp_path):
    words = [pictures, "--quiet", "--run", tmp_path / "run", "--images.side", 40, "--images.positions", 9]
    assert alexnet("train", *words, *SMALL).code == 0
    assert alexnet("train", *words, "--resume").code == 0


def test_a_run_whose_checkpoints_are_gone_says_that_it_begins_anew(alexnet, pictures, own_run):
    shutil.rmtree(own_run / "checkpoints")
    (own_run / "result.json").unlink()
    ended = alexnet("train", pictures, "--run", own_run, "--resume")
    assert ended.code == 0 and f"{own_run}: nothing was saved yet; from the first step\n" in ended.err


def test_among_five_classes_or_fewer_the_first_five_say_nothing(alexnet, pictures, own_run):
    ended = alexnet("evaluate", own_run, own_run, pictures, "--json")
    *lines, last = ended.out.splitlines()
    assert ended.code == 0 and "top-1" in lines[0] and not any("top-5" in line for line in lines[:3])
    told = json.loads(last)
    assert [set(one) for one in told["runs"]] == [{"run", "top1_error", "top5_error", "views"}] * 2
    assert lines[2].startswith("average of 2 runs: error ") and told["top5_error"] == 0


def test_learning_that_explodes_ends_with_its_own_code(alexnet, pictures, tmp_path):
    ended = alexnet("train", pictures, *SMALL, "--quiet", "--learning.rate", "1e6", "--run", tmp_path / "run")
    assert "smaller --learning.rate" in ended.one_line("train", 5)
