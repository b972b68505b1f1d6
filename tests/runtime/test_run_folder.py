"""A run's folder: begun once, held by one process, its journal telling each step once."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from alexnet.runtime.errors import BadInputError, MachineError
from alexnet.runtime.run_folder import Journal, RunFolder


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path / "runs" / "one")
    folder.create()
    folder.write_json("recipe.json", {"name": "é"})
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_run_exists_from_the_moment_it_has_a_recipe(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    assert folder.path.is_dir() and folder.checkpoints.is_dir() and not folder.exists()
    folder.write_json("recipe.json", {})
    assert folder.exists()


def test_a_folder_with_a_run_is_not_begun_again(run):
    with pytest.raises(BadInputError, match=f"^{run.path}: holds a run already; --resume"):
        run.create()


def test_a_folder_with_other_things_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(BadInputError, match="is not empty and holds no run; "):
        RunFolder(tmp_path).create()
    assert names(tmp_path) == ["thesis.txt"]


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(BadInputError, match=f"^{tmp_path / 'run'}: is a file; "):
        RunFolder(tmp_path / "run").create()
    for place in (tmp_path / "run" / "below", RunFolder(tmp_path / ("x" * 300)).path):
        with pytest.raises(MachineError, match=f"^{place}: cannot write: .+; "):
            RunFolder(place).create()
        with pytest.raises(MachineError, match=f"^{place}: cannot write: .+; "), RunFolder(place).locked():
            pass


def test_what_a_run_that_never_began_left_behind_is_no_hindrance(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    with folder.locked():
        folder.write_json("classes.json", ["ant", "bee"])
        (folder.path / ".statistics.safetensors.partial").write_bytes(b"half")
    folder.create()
    with folder.locked():
        assert not (folder.path / ".statistics.safetensors.partial").exists()


def test_json_comes_back_as_it_was_and_damage_is_named(run):
    known = {"found": "日本", "judged_by": [0.1, 1e-300], "digest": "", "training": 1, "held_out": 2}
    run.write_json("data.json", known)
    assert run.read_json("data.json") == known
    for damage in (b'{"found": ', b"\xff\xfe", b"", b"[]", b"null", b"7", b"{}", b'{"found": ""}'):
        (run.path / "data.json").write_bytes(damage)
        with pytest.raises(BadInputError, match=f"^{run.path / 'data.json'}:? .*; "):
            run.read_json("data.json")
    with pytest.raises(BadInputError, match=f"^{run.path / 'result.json'}: cannot be read"):
        run.read_json("result.json")


def test_where_there_is_no_run_that_is_said(tmp_path):
    with pytest.raises(BadInputError, match=f"^{tmp_path / 'nowhere'}: no run here; "):
        RunFolder(tmp_path / "nowhere").read_json("result.json")


HOLD = """
import sys, time
from pathlib import Path
from alexnet.runtime.run_folder import RunFolder
with RunFolder(Path(sys.argv[1])).locked():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_run_held_by_another_process_is_refused_with_its_number_until_that_ends(run):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(run.path)], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout.readline() == "held\n"
            (run.path / ".result.json.partial").write_text("being written by the other")
            with (
                pytest.raises(MachineError, match=f"^{run.path}: in use by process {other.pid} on .+; ") as told,
                run.locked(),
            ):
                pass
            assert told.value.exit_code == 4
            assert (run.path / ".result.json.partial").exists()
        finally:
            other.send_signal(signal.SIGKILL)
    with run.locked():
        assert (run.path / ".lock").read_text() == f"process {os.getpid()} on {socket.gethostname()}"
        assert not (run.path / ".result.json.partial").exists()


def test_the_lock_is_let_go_when_the_work_fails(run):
    with pytest.raises(ZeroDivisionError), run.locked():
        raise ZeroDivisionError
    assert (run.path / ".lock").read_bytes() == b"", "as it lies in a store that is given away"
    with run.locked():
        pass


def test_leftovers_are_removed_and_all_else_stays(run):
    (run.checkpoints / ".step-000000007.partial").mkdir()
    (run.checkpoints / ".step-000000007.partial" / "weights.safetensors").write_bytes(b"half")
    (run.checkpoints / "step-000000006").mkdir()
    (run.path / ".journal.jsonl.partial").write_bytes(b"half")
    with run.locked():
        assert names(run.checkpoints) == ["step-000000006"]
        assert names(run.path) == [".lock", "checkpoints", "recipe.json"]


def steps(run):
    return [event["step"] for event in run.events()]


def written(run, lines, *numbers):
    journal = Journal(run, lines)
    for number in numbers:
        journal.write(event="step", step=number)
    journal.close()
    return journal


def test_events_are_told_in_order_to_the_journal_and_to_listeners(run):
    assert run.events() == []
    journal = Journal(run, 0)
    told = []
    journal.listeners.append(told.append)
    for number in (1, 2):
        journal.write(event="step", step=number, loss=0.1)
        assert steps(run)[-1] == number, "a reader sees a line at once"
    journal.close()
    assert told == run.events() == [{"event": "step", "step": number, "loss": 0.1} for number in (1, 2)]
    assert journal.lines == 2


def test_on_resuming_the_lines_after_the_checkpoint_are_taken_back(run):
    written(run, 0, 1, 2, 3, 4, 5)
    journal = written(run, 2, 3, 4)
    assert steps(run) == [1, 2, 3, 4] and journal.lines == 4
    written(run, 0)
    assert steps(run) == []


def test_a_torn_last_line_is_no_event_and_is_dropped_on_resuming(run):
    written(run, 0, 1, 2)
    with (run.path / "journal.jsonl").open("ab") as file:
        file.write(b'{"event": "step", "st')
    assert steps(run) == [1, 2]
    written(run, 2, 3)
    assert steps(run) == [1, 2, 3]


@pytest.mark.parametrize("torn", [0, 5])
def test_a_journal_that_lost_lines_is_told_and_nothing_is_made_of_the_rest(run, torn):
    written(run, 0, 1, 2)
    content = (run.path / "journal.jsonl").read_bytes()
    (run.path / "journal.jsonl").write_bytes(content[: len(content) - torn])
    has, counted = (1, 2) if torn else (2, 7)
    with pytest.raises(
        BadInputError, match=rf"journal\.jsonl: has {has} of the {counted} lines that the newest checkpoint"
    ):
        Journal(run, counted)


@pytest.mark.parametrize("line", [b"7", b"null", b"{}", b'{"event": "training", "step": 1}', b'{"event": "judging"}'])
def test_a_line_that_is_no_event_is_named(run, line):
    written(run, 0, 1)
    with (run.path / "journal.jsonl").open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(BadInputError, match=r"journal\.jsonl: line 2 is damaged .*; train again"):
        run.events()


def test_a_damaged_line_is_named(run):
    written(run, 0, 1, 2, 3)
    content = (run.path / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (run.path / "journal.jsonl").write_bytes(content[0] + b'{"event": \xff\n' + content[2])
    with pytest.raises(BadInputError, match=f"^{run.path / 'journal.jsonl'}: .*2.*; "):
        run.events()


def test_a_journal_that_the_disk_refuses_is_told_once_and_can_be_resumed(run, largest_file):
    journal = Journal(run, 0)
    journal.write(event="step", step=1)
    with largest_file(40):
        with pytest.raises(MachineError, match=r"journal\.jsonl: cannot write: file too large; "):
            journal.write(event="step", step=2)
        journal.close()
    assert steps(run) == [1]
    written(run, 1, 2)
    assert steps(run) == [1, 2]
