"""Files are written whole or not at all, whatever stops the writer."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from alexnet.runtime.commit import remove_leftovers, unfinished, whole_folder, write_whole
from alexnet.runtime.errors import MachineError

OLD, NEW = b"old" * 1000, b"new, and longer" * 1000


def names(folder):
    return sorted(path.name for path in folder.rglob("*"))


def test_a_file_gets_its_content_and_nothing_else_appears(tmp_path):
    write_whole(tmp_path / "made" / "on the way" / "file", OLD)
    write_whole(tmp_path / "made" / "on the way" / "file", "tëxt")
    assert (tmp_path / "made" / "on the way" / "file").read_bytes() == "tëxt".encode()
    assert names(tmp_path / "made") == ["file", "on the way"]


def test_a_folder_gets_its_files_together(tmp_path):
    with whole_folder(tmp_path / "checkpoint") as partial:
        (partial / "one").write_bytes(OLD)
        (partial / "two").write_bytes(NEW)
        assert not (tmp_path / "checkpoint").exists(), "it is there when it is whole, not before"
    assert names(tmp_path) == ["checkpoint", "one", "two"]


def test_a_folder_whose_filling_fails_never_appears(tmp_path):
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "checkpoint") as partial:
        (partial / "one").write_bytes(OLD)
        raise ZeroDivisionError
    assert names(tmp_path) == []


def test_a_folder_that_an_earlier_program_left_half_filled_does_not_mix_in(tmp_path):
    (tmp_path / ".checkpoint.partial").mkdir()
    (tmp_path / ".checkpoint.partial" / "stale").write_bytes(OLD)
    with whole_folder(tmp_path / "checkpoint") as partial:
        (partial / "fresh").write_bytes(NEW)
    assert names(tmp_path) == ["checkpoint", "fresh"]


def test_a_folder_that_made_way_goes_back_where_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    place, rename = tmp_path / "checkpoint", Path.rename

    def refused(path, target):
        if Path(target) == place and path.name == ".checkpoint.partial":
            raise OSError(5, "Input/output error")
        return rename(path, target)

    with whole_folder(place) as partial:
        (partial / "one").write_bytes(OLD)
    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(MachineError, match="input/output error"), whole_folder(place) as partial:
        (partial / "one").write_bytes(NEW)
    assert names(tmp_path) == ["checkpoint", "one"] and (place / "one").read_bytes() == OLD


def test_what_an_interrupted_write_left_is_removed_and_the_rest_stays(tmp_path):
    (tmp_path / ".step-3.partial").mkdir()
    (tmp_path / ".step-3.partial" / "weights").write_bytes(OLD)
    (tmp_path / ".result.json.partial").write_bytes(OLD)
    for kept in ("result.json", ".lock", "notes.partial"):
        (tmp_path / kept).write_bytes(OLD)
    remove_leftovers(tmp_path)
    assert names(tmp_path) == [".lock", "notes.partial", "result.json"]


TWO_WRITERS = """
import sys
from pathlib import Path
from alexnet.runtime.commit import write_whole
for _ in range(100):
    write_whole(Path(sys.argv[1]), sys.argv[2] * 100_000)
"""


def test_two_that_write_the_same_file_leave_what_one_of_them_wrote(tmp_path):
    file = tmp_path / "file"
    writers = [subprocess.Popen([sys.executable, "-c", TWO_WRITERS, str(file), letter]) for letter in "ab"]
    while any(writer.poll() is None for writer in writers):
        assert not file.exists() or set(file.read_text()) in ({"a"}, {"b"})
    assert [writer.returncode for writer in writers] == [0, 0]
    assert len(file.read_text()) == 100_000 and names(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("temporary", "name"),
    [
        (".recipe.json.4711.partial", "recipe.json"),
        (".store.unfinished.json.partial", "store.unfinished.json"),
        (".step-000000007.partial", "step-000000007"),
        ("notes.partial", "notes.partial"),
        ("photos", "photos"),
    ],
)
def test_what_a_temporary_name_was_to_become(temporary, name):
    assert unfinished(temporary) == name


def test_a_file_that_does_not_fit_leaves_the_old_one(tmp_path, largest_file):
    file = tmp_path / "file"
    write_whole(file, OLD)
    with largest_file(5000), pytest.raises(MachineError, match=rf"^{file}: cannot write: file too large; ") as told:
        write_whole(file, NEW)
    assert told.value.exit_code == 4
    assert file.read_bytes() == OLD and names(tmp_path) == ["file"]
    write_whole(file, NEW)
    assert file.read_bytes() == NEW


def test_a_folder_that_does_not_fit_never_appears(tmp_path, largest_file):
    too_large = pytest.raises(MachineError, match=r"checkpoint: cannot write: file too large")
    with largest_file(5000), too_large, whole_folder(tmp_path / "checkpoint") as partial:
        (partial / "small").write_bytes(OLD)
        (partial / "large").write_bytes(NEW)
    assert names(tmp_path) == []


def test_a_path_that_cannot_be_written_is_told_with_a_remedy(tmp_path):
    (tmp_path / "file").write_bytes(OLD)
    for place in (tmp_path / "file" / "below", Path("/proc/nothing/here")):
        with pytest.raises(MachineError, match=rf"^{place}: cannot write: .+; "):
            write_whole(place, NEW)
        with pytest.raises(MachineError, match=rf"^{place}: cannot write: .+; "), whole_folder(place):
            pass
    assert (tmp_path / "file").read_bytes() == OLD


IN_A_FULL_HOUSE = """
import os, subprocess, sys
from pathlib import Path
from alexnet.runtime.commit import write_whole
from alexnet.runtime.errors import MachineError
disk = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], check=True)
write_whole(disk / "file", b"old" * 1000)
if sys.argv[2] == "read-only":
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
try:
    write_whole(disk / "file", b"new" * 100_000)
except MachineError as error:
    print(error)
print(os.listdir(disk), (disk / "file").read_bytes() == b"old" * 1000)
"""


@pytest.mark.parametrize(
    ("house", "told"),
    [("full", "no space left on device; free some space"), ("read-only", "read-only file system; choose a folder")],
)
def test_on_a_real_disk_that_is_full_or_read_only_the_old_file_stays(tmp_path, house, told):
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs a mount namespace of its own (unshare -rm)")
    command = ["unshare", "-rm", sys.executable, "-c", IN_A_FULL_HOUSE, str(tmp_path), house]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    message, left = ended.stdout.splitlines()
    assert message.startswith(f"{tmp_path / 'file'}: cannot write: {told}")
    assert left == "['file'] True"


def _write_whole(folder):
    write_whole(folder / "file", NEW)


def _write_in_place(folder):
    (folder / "file").write_bytes(NEW)


def _remove_then_rename(folder):
    (folder / "new").write_bytes(NEW)
    (folder / "file").unlink()
    (folder / "new").rename(folder / "file")


def test_the_disk_has_the_content_before_the_name_and_the_name_before_the_end(tmp_path):
    if not shutil.which("strace") or subprocess.run(["strace", "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs strace, allowed to trace")
    code = "import sys, pathlib, alexnet.runtime.commit as c; c.write_whole(pathlib.Path(sys.argv[1]), 'x')"
    trace = tmp_path / "trace"
    tracer = ["strace", "-f", "-y", "-o", str(trace), "-e", "trace=write,fsync,rename"]
    subprocess.run([*tracer, sys.executable, "-c", code, str(tmp_path / "house" / "file")], check=True)
    calls = re.findall(rf"(write|fsync|rename)\([^\n]*?{tmp_path}/house(/[.\w]+)?[>\"]", trace.read_text())
    calls = [(call, re.sub(r"\.\d+\.", ".", place)) for call, place in calls]
    partial = "/.file.partial"
    assert calls == [("write", partial), ("fsync", partial), ("rename", partial), ("fsync", "")]


WRITERS = {writer.__name__: writer for writer in (_write_whole, _write_in_place, _remove_then_rename)}


def _state(folder):
    if not (folder / "file").exists():
        return "nothing"
    content = (folder / "file").read_bytes()
    return {OLD: "old", NEW: "new"}.get(content, "torn")


def deaths_of(writer, folder):
    """Let `writer` die everywhere, in a process of its own: [[where, what is left], ...]."""
    command = [sys.executable, __file__, writer, str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_wherever_the_writer_is_killed_the_old_content_or_the_new_is_there(tmp_path):
    outcomes = deaths_of("_write_whole", tmp_path)
    left = [state for where, state in outcomes if where != "alive"]
    assert len(left) > 12 and set(left) == {"old", "new"}
    assert outcomes[-1] == ["alive", "new"]


def test_the_control_shows_that_two_common_ways_of_writing_do_not_survive_this(tmp_path):
    assert "torn" in {state for _, state in deaths_of("_write_in_place", tmp_path / "one")}
    assert "nothing" in {state for _, state in deaths_of("_remove_then_rename", tmp_path / "other")}


if __name__ == "__main__":
    from dying import every_death

    before = Path(sys.argv[2], "before")
    before.mkdir(parents=True)
    (before / "file").write_bytes(OLD)
    sizes = range(0, len(NEW) + 1, len(NEW) // 12)
    print(json.dumps(every_death(before.with_name("now"), before, WRITERS[sys.argv[1]], _state, sizes)))
