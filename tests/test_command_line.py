"""The command line: one verb per stage, an exit code that says how it ended, one line for what a person can mend."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from alexnet.command_line import VERBS
from alexnet.network.alexnet import AlexNet
from alexnet.network.lineages import LINEAGES
from alexnet.runtime import checkpoint
from alexnet.runtime.checkpoint import Checkpoint
from alexnet.runtime.errors import AlexNetError, BadInputError, DivergedError, Interrupted, MachineError, UsageError

SMALL = ("--recipe", "cifar-18pct", "--learning.epochs", "2", "--learning.batch", "8")


def one_line(ended, verb, code):
    """The message of a command that ended as it should: one line in our form, nothing else."""
    assert ended.code == code, ended
    match = re.fullmatch(rf"alexnet {verb}: error: ([^\n]+)\n", ended.err)
    assert match, ended.err
    return match[1]


def python(*words, **options):
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, **options)


def test_the_exit_codes_are_what_the_documents_promise():
    classes = (AlexNetError, UsageError, BadInputError, MachineError, DivergedError)
    assert [each.exit_code for each in classes] == [1, 2, 3, 4, 5]
    assert [Interrupted("", number).exit_code for number in (signal.SIGINT, signal.SIGTERM)] == [130, 143]


def test_help_lists_every_verb(alexnet):
    for words in ((), ("--help",), ("-h",)):
        ended = alexnet(*words)
        assert (ended.code, ended.err) == (0, "")
        assert all(re.search(rf"^  {verb} ", ended.out, re.MULTILINE) for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_its_help(alexnet, verb):
    ended = alexnet(verb, "--help")
    assert (ended.code, ended.err) == (0, "") and f"usage: alexnet {verb}" in ended.out and "--json" in ended.out


def test_trains_help_says_what_each_number_of_the_recipe_means(alexnet):
    said = " ".join(alexnet("train", "--help").out.split())
    for option, words in (("--learning.rate X", "learning rate at the start"), ("--seed X", "everything random")):
        assert f"{option} {words}" in said


def test_help_and_inspect_answer_without_torch():
    code = (
        "import sys; from alexnet.command_line import main; main(sys.argv[1:]);"
        "print([m for m in ('torch', 'numpy', 'PIL', 'rich') if m in sys.modules], file=sys.stderr)"
    )
    assert python("-c", code, "--help").stderr == "[]\n"
    assert "torch" not in python("-c", code, "inspect", "paper").stderr


def test_help_answers_in_under_half_a_second():
    durations = []
    for _ in range(5):
        started = time.perf_counter()
        assert python("-m", "alexnet", "--help").returncode == 0
        durations.append(time.perf_counter() - started)
    assert min(durations) < 0.5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian", "digits"], "trian: no such verb; did you mean train?"),
        (["xyzzy"], "xyzzy: no such verb; there are inspect, train, evaluate, classify, report"),
        (["inspect", "sorce-2012"], "sorce-2012: no such lineage; did you mean source-2012?"),
        (["inspect", "paper", "--against", "cafe"], "cafe: no such lineage; did you mean caffe?"),
        (["inspect", "paper", "--agianst", "caffe"], "--agianst: no such option; did you mean --against?"),
        (["train", "digits", "--recipe", "defualt"], "--recipe: defualt: no such recipe; did you mean default?"),
        (["train", "digits", "--learnig.rate", "1"], "--learnig.rate: no such option; did you mean --learning.rate?"),
        (["train", "digits", "--learning.epochs=x"], "--learning.epochs: 'x' is not a whole number"),
        (
            ["train", "digits", "--images.shape", "crop"],
            "--images.shape: 'crop' is not a choice; did you mean cropped?",
        ),
        (
            ["train", "digits", "--network.lineage", "papr"],
            "--network.lineage: 'papr' is no lineage; did you mean paper?",
        ),
        (["train", "digits", "--resume"], "--resume: which run? name it with --run"),
        (["evaluate", "a", "b", "d", "--weights", "1,x"], "--weights: '1,x' are not numbers with commas between them"),
        (["evaluate", "a", "b", "d", "--weights", "1"], "--weights: '1'; give 2 numbers from 0, one a run, not all 0"),
        (["evaluate", "a", "b", "d", "--weights", "nan,1"], "--weights: 'nan,1'; give 2 numbers"),
    ],
)
def test_a_wrong_word_is_told_with_the_nearest_right_one(alexnet, words, message):
    assert one_line(alexnet(*words), words[0], 2).startswith(message)


@pytest.mark.parametrize(
    "words",
    [
        ["train"],
        ["train", "digits", "more"],
        ["classify", "run"],
        ["evaluate", "run", "digits", "--views", "3"],
        ["report"],
        ["inspect", "paper", "caffe"],
        ["train", "digits", "--learning.rate", "nan"],
        ["train", "digits", "--learning.batch", "-1"],
        ["train", "digits", "--learning.batch", "1e9"],
        ["train", "digits", "--learning.rate", "-0.1"],
        ["train", "digits", "--images.patch", "999"],
        ["train", "digits", "--seed", "-1"],
        ["train", "digits", "--parallel.towers", "2"],
    ],
)
def test_what_cannot_work_is_told_before_any_picture_is_read(alexnet, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one_line(alexnet(*words), words[0], 2)
    assert not list(tmp_path.iterdir())


def test_inspect_counts_what_the_paper_counts(alexnet):
    ended = alexnet("inspect", "paper", "--json")
    told = json.loads(ended.out.splitlines()[-1])
    assert (told["parameters"], told["multiply_adds"], told["lineage"]) == (60_965_224, 724_406_816, "paper")
    assert told["neurons"] == sum(layer["neurons"] for layer in told["layers"])
    assert told["parameters"] == sum(layer["weights"] + layer["biases"] for layer in told["layers"])
    shapes = {layer["name"]: layer["output"] for layer in told["layers"]}
    assert (shapes["conv1"], shapes["pool5"], shapes["fc8"]) == ([96, 55, 55], [256, 6, 6], [1000, 1, 1])
    assert "60,965,224" in ended.out and "96 x 55 x 55" in ended.out


def test_inspect_lists_the_lineages_and_tells_two_apart(alexnet):
    ended = alexnet("inspect", "--json")
    assert json.loads(ended.out.splitlines()[-1])["lineages"] == list(LINEAGES)
    assert all(name in ended.out for name in LINEAGES)
    told = json.loads(alexnet("inspect", "paper", "--against", "caffenet", "--json").out.splitlines()[-1])
    assert told["differences"] and all(set(each) == {"what", "one", "other"} for each in told["differences"])
    assert (
        json.loads(alexnet("inspect", "paper", "--against", "paper", "--json").out.splitlines()[-1])["differences"]
        == []
    )


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
    message = one_line(alexnet("train", pictures, *SMALL, "--run", own_run), "train", 3)
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
    message = one_line(alexnet("train", pictures, *SMALL, "--run", own_run, "--resume", *more), "train", 3)
    assert message.startswith(f"{own_run}: was begun with another recipe (") and named in message


def test_a_run_is_not_resumed_with_other_pictures_but_with_the_same_in_another_place(alexnet, own_pictures, own_run):
    assert alexnet("train", own_pictures, *SMALL, "--run", own_run, "--resume").code == 0
    shutil.copy(own_pictures / "red" / "00.jpg", own_pictures / "red" / "99.jpg")
    message = one_line(alexnet("train", own_pictures, *SMALL, "--run", own_run, "--resume"), "train", 3)
    assert message.startswith(f"{own_run}: was begun with other pictures or classes; ")


def test_where_there_is_no_run_there_is_nothing_to_resume(alexnet, pictures, tmp_path):
    message = one_line(alexnet("train", pictures, *SMALL, "--run", tmp_path / "none", "--resume"), "train", 3)
    assert message.startswith(f"{tmp_path / 'none'}: no run to resume; ")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/alexnet/run", "x" * 300])
def test_a_place_where_no_run_can_be_is_told_before_any_learning(alexnet, pictures, tmp_path, place):
    (tmp_path / "file").write_text("in the way")
    ended = alexnet("train", pictures, *SMALL, "--run", tmp_path / place)
    message = one_line(ended, "train", 3 if place == "file" else 4)
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
    checkpoint.save(run / "checkpoints", int(newest.name[5:]), Checkpoint(weights, velocity, saved.state))


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
        message = one_line(alexnet(verb, *words), verb, 3)
        assert "step-000000008" in message and "another network" in message and "; " in message


def test_learning_that_explodes_ends_with_its_own_code(alexnet, pictures, tmp_path):
    ended = alexnet("train", pictures, *SMALL, "--quiet", "--learning.rate", "1e6", "--run", tmp_path / "run")
    assert "smaller --learning.rate" in one_line(ended, "train", 5)


def test_a_name_with_line_breaks_and_escapes_is_told_in_one_plain_line(alexnet, tmp_path):
    evil = tmp_path / "cat\n\x1b[31mdog\r\u202e.jpg"
    for verb, words in (("train", [evil]), ("classify", [tmp_path / "run", evil]), ("evaluate", [evil, evil])):
        message = one_line(alexnet(verb, *words), verb, 3)
        assert message.isprintable()
    assert r"cat\n\x1b[31mdog\r\u202e.jpg: no such file" in one_line(alexnet("train", evil), "train", 3)
    undecodable = os.fsdecode(b"\xff\xfe.jpg")
    assert r"\udcff\udcfe.jpg: no such file" in one_line(alexnet("train", undecodable), "train", 3)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["inspect", "paper"], ["inspect", "--json"]])
def test_nobody_reading_on_is_no_error(words, unbuffered):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        command = [sys.executable, "-m", "alexnet", *words]
        environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        ended = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True, check=False, env=environment)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_terminal_without_unicode_is_no_error():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    for words in (["inspect"], ["inspect", "paper", "--against", "caffe"]):
        ended = python("-m", "alexnet", *words, env=environment)
        assert (ended.returncode, ended.stderr) == (0, ""), words


def test_python_m_alexnet_is_the_same_command():
    ended = python("-m", "alexnet", "inspect", "nothing", cwd=Path("/"))
    assert ended.returncode == 2 and ended.stderr.startswith("alexnet inspect: error: nothing: no such lineage; ")
