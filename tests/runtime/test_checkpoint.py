"""Checkpoints: the newest whole one is found, damage is told and passed over, nothing infinite is ever kept."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from alexnet.runtime import checkpoint
from alexnet.runtime.checkpoint import Checkpoint
from alexnet.runtime.commit import remove_leftovers
from alexnet.runtime.errors import BadInputError, DivergedError, MachineError
from company import stream_of

FILES = ("manifest.json", "state.json", "velocity.safetensors", "weights.safetensors")


def made(step):
    weights = {"conv1.weight": torch.full((40, 7), float(step)), "conv1.bias": torch.arange(5.0) + step}
    return Checkpoint(weights, {name: -tensor for name, tensor in weights.items()}, {"step": step, "errors": [0.5]})


def save(folder, step, kept):
    checkpoint.save(folder, step, stream_of(kept.weights), stream_of(kept.velocity), kept.state)


def same(one, other):
    tensors = ((one.weights, other.weights), (one.velocity, other.velocity))
    return one.state == other.state and all(
        set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a) for a, b in tensors
    )


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def two(tmp_path):
    """A folder with the checkpoints of steps 1 and 2."""
    for step in (1, 2):
        save(tmp_path, step, made(step))
    return tmp_path


def test_what_was_saved_is_read_back_to_the_bit(tmp_path):
    kept = made(3)
    kept.weights["conv1.bias"][0] = 1e-42
    kept.weights["conv1.bias"][1] = -0.0
    save(tmp_path, 3, kept)
    path = checkpoint.newest(tmp_path)
    assert path == tmp_path / "step-000000003"
    assert same(checkpoint.load(path), kept)
    bits = checkpoint.read_tensors(path / "weights.safetensors")["conv1.bias"].view(torch.int32)
    assert torch.equal(bits, kept.weights["conv1.bias"].view(torch.int32))


def test_a_tensor_in_another_memory_order_is_saved_as_what_it_says(tmp_path):
    turned = torch.arange(96.0).view(2, 3, 4, 4).to(memory_format=torch.channels_last)
    save(tmp_path, 1, Checkpoint({"w": turned}, {"w": turned.transpose(0, 1)}, {}))
    read = checkpoint.load(tmp_path / "step-000000001")
    assert torch.equal(read.weights["w"], turned) and torch.equal(read.velocity["w"], turned.transpose(0, 1))


def test_the_two_newest_are_kept(tmp_path):
    for step in (5, 50, 500, 20_000_000):
        save(tmp_path, step, made(step))
    assert names(tmp_path) == ["step-000000500", "step-020000000"]


def test_the_newest_is_the_highest_step_and_not_the_last_written(two):
    shutil.copytree(two / "step-000000001", two / "copy")
    (two / "copy").rename(two / "step-000000009")
    os.utime(two / "step-000000009", (0, 0))
    assert checkpoint.newest(two) == two / "step-000000009"


def test_where_nothing_was_saved_there_is_none(tmp_path):
    assert checkpoint.newest(tmp_path) is None
    assert checkpoint.newest(tmp_path / "missing") is None


def test_what_is_no_checkpoint_is_no_candidate(two):
    for name in ("step-abc", "step-", ".step-000000007.partial", "step-000000008.partial", "old"):
        (two / name).mkdir()
    (two / "step-000000099").write_text("a file")
    told = []
    assert checkpoint.newest(two, told.append) == two / "step-000000002"
    assert told == []


def flipped(file, place):
    content = bytearray(file.read_bytes())
    content[place % len(content)] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0, 7, 60, 181, -40, -1])
def test_a_flipped_bit_anywhere_falls_back_to_the_checkpoint_before_it_with_a_word(two, name, place):
    damaged = two / "step-000000002"
    flipped(damaged / name, place)
    told = []
    assert checkpoint.newest(two, told.append) == two / "step-000000001"
    assert len(told) == 1 and str(damaged) in told[0] and "damaged" in told[0] and "\n" not in told[0]
    assert same(checkpoint.load(two / "step-000000001"), made(1))
    assert names(two) == ["step-000000001", "step-000000002"], "nothing is deleted on reading"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "damage", [Path.unlink, lambda file: file.write_bytes(b""), lambda file: os.truncate(file, 50)]
)
def test_a_missing_or_shortened_file_counts_as_damage(two, name, damage):
    damage(two / "step-000000002" / name)
    assert checkpoint.newest(two) == two / "step-000000001"


@pytest.mark.parametrize(
    "manifest", ["{}", "[]", "null", "7", '{"format": 1}', '{"format": 1, "sha256": []}', '{"format": 1, "sha256": {}}']
)
def test_a_manifest_that_vouches_for_nothing_is_damage(two, manifest):
    (two / "step-000000002" / "manifest.json").write_text(manifest)
    assert checkpoint.newest(two) == two / "step-000000001"


def test_a_checkpoint_of_a_later_format_is_named_as_that(two):
    file = two / "step-000000002" / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 2}))
    told = []
    assert checkpoint.newest(two, told.append) == two / "step-000000001"
    assert len(told) == 1 and "another version" in told[0]


def test_when_all_are_damaged_the_newest_is_named_and_nothing_is_guessed(two):
    for step in (1, 2):
        flipped(two / f"step-00000000{step}" / "weights.safetensors", -3)
    told = []
    with pytest.raises(BadInputError, match=r"step-000000002/weights\.safetensors: damaged .*; .*train again"):
        checkpoint.newest(two, told.append)
    assert not told, "that it goes back, when it does not"


def test_damaged_ones_of_higher_steps_are_forgotten_and_not_what_was_just_saved(tmp_path):
    for step in (10, 20):
        save(tmp_path, step, made(step))
    shutil.copytree(tmp_path / "step-000000020", tmp_path / "step-000000030")  # left so by a machine that went off
    for step in (20, 30):
        flipped(tmp_path / f"step-{step:09}" / "weights.safetensors", -3)
    assert checkpoint.newest(tmp_path).name == "step-000000010"
    for step in (12, 14):
        save(tmp_path, step, made(step))
        assert checkpoint.newest(tmp_path).name == f"step-{step:09}"
    assert names(tmp_path) == [f"step-{step:09}" for step in (12, 14)]


def test_damage_to_another_file_does_not_matter_to_who_wants_one(two):
    damaged = two / "step-000000002"
    flipped(damaged / "velocity.safetensors", -3)
    assert checkpoint.newest(two, only="weights.safetensors") == damaged
    assert checkpoint.newest(two) == two / "step-000000001"
    flipped(damaged / "weights.safetensors", -3)
    assert checkpoint.newest(two, only="weights.safetensors") == two / "step-000000001"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("part", ["weights", "velocity"])
def test_a_value_that_is_not_finite_is_never_written(two, part, value):
    bad = made(3)
    getattr(bad, part)["conv1.bias"][4] = value
    with pytest.raises(DivergedError, match=r"conv1\.bias"):
        save(two, 3, bad)
    assert names(two) == ["step-000000001", "step-000000002"]


def test_saving_the_same_step_again_replaces_it(two):
    later = Checkpoint(made(2).weights, made(2).velocity, {"step": 2, "errors": [0.5, 0.25]})
    save(two, 2, later)
    assert same(checkpoint.load(two / "step-000000002"), later)
    flipped(two / "step-000000002" / "weights.safetensors", -1)
    save(two, 2, later)
    assert same(checkpoint.load(two / "step-000000002"), later)
    assert names(two) == ["step-000000001", "step-000000002"]


@pytest.mark.parametrize("step", [2, 3])
def test_a_save_that_does_not_fit_leaves_the_older_checkpoints(two, largest_file, step):
    with largest_file(500), pytest.raises(MachineError, match=rf"step-00000000{step}: cannot write: file too large"):
        save(two, step, made(step))
    assert same(checkpoint.load(two / "step-000000002"), made(2))
    assert names(two) == ["step-000000001", "step-000000002"]
    save(two, 3, made(3))
    assert names(two) == ["step-000000002", "step-000000003"]


def _state(folder):
    """What a run finds: the newest checkpoint by its step; an exception where there is none that is whole."""
    remove_leftovers(folder)
    path = checkpoint.newest(folder)
    step = int(path.name[5:])
    assert same(checkpoint.load(path), made(step))
    return f"step {step}"


def test_wherever_a_save_is_killed_a_whole_checkpoint_is_there(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, __file__, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert ended.returncode == 0, ended.stderr
    of_the_next_step, of_the_same_step = json.loads(ended.stdout)
    for outcomes, found in ((of_the_next_step, {"step 2", "step 3"}), (of_the_same_step, {"step 2"})):
        left = [state for where, state in outcomes if where != "alive"]
        assert len(left) > 18 and set(left) == found
        assert outcomes[-1] == ["alive", max(found)]


if __name__ == "__main__":
    from dying import every_death

    before, now = Path(sys.argv[1], "before"), Path(sys.argv[1], "now")
    for number in (1, 2):
        save(before, number, made(number))
    acts = [lambda folder: save(folder, 3, made(3)), lambda folder: save(folder, 2, made(2))]
    print(json.dumps([every_death(now, before, act, _state, range(0, 1400, 200)) for act in acts]))
