"""The command line: one verb per stage, an exit code that says how it ended, one line for what a person can mend."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from alexnet.command_line import VERBS
from alexnet.network.lineages import LINEAGES
from alexnet.runtime.errors import AlexNetError, BadInputError, DivergedError, Interrupted, MachineError, UsageError

SMALL = ("--recipe", "cifar-18pct", "--learning.epochs", "2", "--learning.batch", "8")


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


def test_help_needs_less_than_half_a_second_of_a_processor():
    needed = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert python("-m", "alexnet", "--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        needed.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(needed) < 0.5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian", "digits"], "trian: no such verb; did you mean train?"),
        (["xyzzy"], "xyzzy: no such verb; there are prepare, inspect, train, evaluate, classify, report"),
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
        (["inspect", "paper", "caffe"], "caffe: one word too many; see alexnet inspect --help"),
        (["evaluate", "a", "b", "d", "--weights", "1,x"], "--weights: '1,x' are not numbers with commas between them"),
        (["evaluate", "a", "b", "d", "--weights", "1"], "--weights: '1'; give 2 numbers from 0, one a run, not all 0"),
        (["evaluate", "a", "b", "d", "--weights", "nan,1"], "--weights: 'nan,1'; give 2 numbers"),
        (["evaluate", "a", "b", "--weights", "1,x", "d"], "--weights: '1,x' are not numbers with commas between them"),
    ],
)
def test_a_wrong_word_is_told_with_the_nearest_right_one(alexnet, words, message):
    assert alexnet(*words).one_line(words[0], 2).startswith(message)


@pytest.mark.parametrize(
    "words",
    [
        ["train"],
        ["train", "digits", "more"],
        ["classify", "run"],
        ["evaluate", "run", "digits", "--views", "3"],
        ["report"],
        ["prepare", "digits"],
        ["prepare", "digits", "s3://bucket/store"],
        ["prepare", "digits", "store", "--side", "0"],
        ["prepare", "digits", "store", "--verify"],
        ["prepare", "digits", "store", "--filter", "nearest"],
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
    alexnet(*words).one_line(words[0], 2)
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


def test_to_compare_with_another_lineage_takes_one(alexnet):
    assert alexnet("inspect", "--against", "caffe").one_line("inspect", 2).startswith("--against: which lineage? ")


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


def test_a_name_with_line_breaks_and_escapes_is_told_in_one_plain_line(alexnet, tmp_path):
    evil = tmp_path / "cat\n\x1b[31mdog\r\u202e.jpg"
    for verb, words in (("train", [evil]), ("classify", [tmp_path / "run", evil]), ("evaluate", [evil, evil])):
        message = alexnet(verb, *words).one_line(verb, 3)
        assert message.isprintable()
    assert r"cat\n\x1b[31mdog\r\u202e.jpg: no such file" in alexnet("train", evil).one_line("train", 3)
    undecodable = os.fsdecode(b"\xff\xfe.jpg")
    assert r"\udcff\udcfe.jpg: no such file" in alexnet("train", undecodable).one_line("train", 3)


def test_a_terminal_without_unicode_is_no_error():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    for words in (["inspect"], ["inspect", "paper", "--against", "caffe"]):
        ended = python("-m", "alexnet", *words, env=environment)
        assert (ended.returncode, ended.stderr) == (0, ""), words


def test_python_m_alexnet_is_the_same_command():
    ended = python("-m", "alexnet", "inspect", "nothing", cwd=Path("/"))
    assert ended.returncode == 2 and ended.stderr.startswith("alexnet inspect: error: nothing: no such lineage; ")
