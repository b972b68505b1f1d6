"""Judging a run: every held-out picture once, probabilities kept and used again, several runs averaged."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from alexnet.data.pictures import fingerprints
from alexnet.data.preparation import Preparation
from alexnet.data.prepare import prepare
from alexnet.data.sources import open_dataset
from alexnet.judge import judge, renumbered, unlearned
from alexnet.runtime.arrays import write_arrays
from alexnet.training.progress import Display
from alexnet.training.recipes import RECIPES
from alexnet.training.train import LEARNED_FROM, train
from company import stream_of


def told(ended):
    assert ended.code == 0, ended.err
    return json.loads(ended.out.splitlines()[-1])


def refusal(ended, code=3):
    assert ended.code == code
    assert ended.err.startswith("alexnet evaluate: error: ") and ended.err.count("\n") == 1
    return ended.err


def kept(run):
    return sorted((run / "predictions").iterdir())


def test_other_pictures_are_judged_whole_and_known_ones_are_left_out(alexnet, own_run, own_pictures):
    for number in range(3):
        shutil.copy(own_pictures / "red" / "00.jpg", own_pictures / "red" / f"new-{number}.jpg")
    ended = alexnet("evaluate", own_run, own_pictures, "--json")
    assert told(ended)["images"] == 9 and "all but the 30 that were learned from" in ended.out
    for folder in ("blue", "green", "red"):
        for file in (own_pictures / folder).iterdir():
            file.rename(file.with_name(f"other-{file.name}"))
    ended = alexnet("evaluate", own_run, own_pictures, "--json")
    assert told(ended)["images"] == 39 and "all of them: not the set that a run learned from" in ended.out


@pytest.mark.parametrize("gone", [1, 15])
def test_a_folder_with_half_of_a_runs_names_is_its_own(alexnet, own_run, own_pictures, gone):
    for key in open_dataset(str(own_pictures)).training.keys[:gone]:
        (own_pictures / key).unlink()
    ended = alexnet("evaluate", own_run, own_pictures, "--json")
    said = "a held-out share" if gone == 1 else f"all but the {30 - gone} that were learned from, by their names"
    assert told(ended)["images"] == 6 and said in ended.out


def test_other_pictures_of_a_few_of_its_names_are_judged_whole_with_a_doubt(alexnet, own_run, own_pictures):
    for key in open_dataset(str(own_pictures)).training.keys[:16]:
        (own_pictures / key).unlink()
    ended = alexnet("evaluate", own_run, own_pictures, "--json")
    assert (
        told(ended)["images"] == 20
        and (
            "images judged: 20 (all of them; 14 have names that a run learned from: "
            "if they are the same pictures, this error is too small), each counted once"
        )
        in ended.out
    )


def test_what_is_one_runs_own_and_has_names_of_another_is_told(alexnet, two, own_pictures):
    theirs = fingerprints([*open_dataset(str(own_pictures)).held_out.keys[:2], "a", "b", "c"])
    write_arrays(two[1] / LEARNED_FROM, {"fingerprints": theirs})
    ended = alexnet("evaluate", *two, own_pictures, "--json")
    assert told(ended)["images"] == 6 and "; 2 have names that a run learned from: if they are the same" in ended.out


def test_one_class_or_one_picture_of_each_is_judged_though_it_cannot_be_learned_from(alexnet, own_run, own_pictures):
    for file in own_pictures.glob("*/*"):
        if file.stem != "00":
            file.unlink()
        else:
            file.rename(file.with_name(f"other-{file.name}"))
    ended = alexnet("evaluate", own_run, own_pictures, "--json")
    assert told(ended)["images"] == 3
    for name in ("blue", "green"):
        shutil.rmtree(own_pictures / name)
    ended = alexnet("evaluate", own_run, own_pictures, "--json")
    assert told(ended)["images"] == 1 and "images judged: 1 (all of them" in ended.out


def test_pictures_that_were_all_learned_from_judge_nothing(alexnet, own_run, own_pictures):
    dataset = open_dataset(str(own_pictures))
    for key in dataset.held_out.keys:
        (own_pictures / key).unlink()
    assert f"{own_pictures}/: all these pictures were learned from; " in refusal(
        alexnet("evaluate", own_run, own_pictures)
    )


def test_an_evaluation_counts_every_held_out_picture_once(alexnet, two, pictures):
    for run, error in zip(two, (0, 2 / 3), strict=True):
        json_line = told(alexnet("evaluate", run, pictures, "--json"))
        assert (json_line["images"], json_line["views"], json_line["top5_error"]) == (6, 1, 0)
        assert json_line["top1_error"] == pytest.approx(error)
        assert json_line["top1_error"] == pytest.approx(json.loads((run / "result.json").read_text())["top1_error"])
    said = alexnet("evaluate", two[0], pictures).out
    assert f"{two[0]}: error 0.00% top-1" in said and "images judged: 6" in said and "each counted once" in said


def test_ten_views_are_averaged_probabilities_of_the_same_pictures(alexnet, pictures, tmp_path):
    run = (
        tmp_path / "run"
    )  # of a network that looks at patches: the small recipe's sees whole images, ten times the same
    recipe = RECIPES["cifar-11pct"].altered({"learning.epochs": "1", "learning.batch": "8"})
    train(recipe, open_dataset(str(pictures)), run, Display(quiet=True))
    for views in (1, 10):
        json_line = told(alexnet("evaluate", run, pictures, "--views", views, "--json"))
        assert (json_line["images"], json_line["views"]) == (6, views)
    one, ten = (load_file(file) for file in sorted(kept(run), key=lambda file: "10-views" in file.name))
    assert torch.equal(one["labels"], ten["labels"])
    assert not torch.equal(one["probabilities"], ten["probabilities"])
    assert torch.allclose(ten["probabilities"].sum(1), torch.ones(6))


def test_every_evaluation_looks_again_and_keeps_what_was_said(own_run, own_pictures):
    dataset = open_dataset(str(own_pictures))
    first = judge(own_run, dataset, 1, lambda *done: None)
    assert len(kept(own_run)) == 1
    for file in own_pictures.rglob("*.jpg"):  # the same names, other pixels
        shutil.copy(own_pictures / "red" / "00.jpg", file) if file.name != "00.jpg" else None
    again = judge(own_run, open_dataset(str(own_pictures)), 1, lambda *done: None)
    assert not torch.equal(first.probabilities, again.probabilities)
    judge(own_run, dataset, 10, lambda *done: None)
    assert len(kept(own_run)) == 2


def test_probabilities_of_another_checkpoint_or_other_pictures_are_not_used(own_run, own_pictures):
    work = []
    judge(own_run, open_dataset(str(own_pictures)), 1, lambda *done: work.append(done))
    for number in range(50, 60):
        shutil.copy(own_pictures / "red" / "00.jpg", own_pictures / "red" / f"{number}.jpg")
    judge(own_run, open_dataset(str(own_pictures)), 1, lambda *done: work.append(done))
    (own_run / "checkpoints" / "step-000000008").rename(own_run / "checkpoints" / "step-000000009")
    judge(own_run, open_dataset(str(own_pictures)), 1, lambda *done: work.append(done))
    assert len(work) == 3 and len(kept(own_run)) == 3


def test_kept_probabilities_that_are_damaged_are_computed_again(own_run, pictures):
    dataset, work = open_dataset(str(pictures)), []
    first = judge(own_run, dataset, 1, lambda *done: work.append(done))
    (file,) = kept(own_run)
    for damage in (lambda: os.truncate(file, 100), lambda: file.write_bytes(b""), file.unlink):
        damage()
        assert torch.equal(
            judge(own_run, dataset, 1, lambda *done: work.append(done)).probabilities, first.probabilities
        )
    save_file({"something": torch.zeros(2)}, file)
    assert torch.equal(judge(own_run, dataset, 1, lambda *done: work.append(done)).probabilities, first.probabilities)
    assert len(work) == 5


def test_labels_are_the_runs_own_by_name(own_run, own_pictures, pictures):
    for name in ("blue", "green"):
        shutil.rmtree(own_pictures / name)
    shutil.copytree(pictures / "blue", own_pictures / "blue")
    dataset = open_dataset(str(own_pictures))
    assert dataset.classes == ("blue", "red")
    pictures = renumbered(dataset, ("blue", "green", "red"), own_run)
    assert set(pictures.labels.tolist()) == {0, 2}
    judged = judge(own_run, dataset, 1, lambda *_: None)
    assert judged.probabilities.shape == (4, 3) and judged.errors()[0] == 0
    assert set(renumbered(dataset, ("red", "green", "blue"), own_run).labels.tolist()) == {0, 2}


def test_a_class_that_the_run_never_learned_is_named(alexnet, own_run, own_pictures):
    (own_pictures / "red").rename(own_pictures / "violet")
    message = refusal(alexnet("evaluate", own_run, own_pictures))
    assert f"{own_run}: " in message and "violet" in message and "; " in message
    assert not (own_run / "predictions").exists()


def test_what_is_left_of_a_store_is_not_kept_as_the_stores_own(own_run, own_pictures, tmp_path):
    """One run learned from the store, another from some of the pictures that it holds out."""
    prepare(open_dataset(str(own_pictures)), tmp_path / "store", Preparation("jpeg", 32), lambda *_: None)
    store = open_dataset(str(tmp_path / "store"))
    assert unlearned(store, [own_run]).digest == store.digest
    some = store.held_out.choose(np.arange(2))
    other = tmp_path / "other"
    shutil.copytree(own_run, other)
    write_arrays(other / LEARNED_FROM, {"fingerprints": fingerprints(some.keys)})
    fewer = unlearned(store, [own_run, other])
    assert len(fewer.held_out) == len(store.held_out) - 2 and fewer.digest != store.digest


def test_a_damaged_picture_gives_no_number_at_all(alexnet, own_run, own_pictures):
    held_out = open_dataset(str(own_pictures)).held_out
    damaged = Path(held_out.where + held_out.keys[-1])
    damaged.write_bytes(damaged.read_bytes()[:300])
    ended = alexnet("evaluate", own_run, own_pictures, "--json")
    assert f"{damaged}: " in refusal(ended)
    assert ended.out == "" and not (own_run / "predictions").exists()


def test_a_run_without_anything_learned_and_what_is_no_run_are_named(alexnet, own_run, pictures, tmp_path):
    shutil.rmtree(own_run / "checkpoints")
    for run, words in ((own_run, "nothing learned yet"), (tmp_path / "none", "no run here"), (pictures, "no run here")):
        assert f"{run}: {words}; " in refusal(alexnet("evaluate", run, pictures))


@pytest.mark.parametrize("name", ["recipe.json", "classes.json", "statistics.safetensors"])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[]", b"null", b"7"])
def test_a_damaged_file_of_the_run_is_named(alexnet, own_run, pictures, name, content):
    (own_run / name).write_bytes(content)
    assert f"{own_run / name}: " in refusal(alexnet("evaluate", own_run, pictures))


def test_damaged_checkpoints_are_told_when_none_is_left(alexnet, own_run, pictures):
    for file in own_run.glob("checkpoints/*/weights.safetensors"):
        content = bytearray(file.read_bytes())
        content[-5] ^= 4
        file.write_bytes(content)
    assert "step-000000008/weights.safetensors: damaged" in refusal(alexnet("evaluate", own_run, pictures))


def test_weights_that_overflow_give_no_number(alexnet, own_run, pictures):
    from alexnet.runtime import checkpoint

    newest = checkpoint.newest(own_run / "checkpoints")
    saved = checkpoint.load(newest)
    for tensor in saved.weights.values():
        tensor.mul_(1e30)
    shutil.rmtree(newest)
    streams = stream_of(saved.weights), stream_of(saved.velocity)
    checkpoint.save(own_run / "checkpoints", 8, *streams, saved.state)
    assert "not finite" in refusal(alexnet("evaluate", own_run, pictures), code=5)


def test_a_run_is_judged_by_a_folder_with_its_own_val(alexnet, own_run, tmp_path):
    for split, count in (("train", 1), ("val", 3)):
        for name, colour in (("blue", (40, 60, 200)), ("red", (200, 50, 40))):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.random.default_rng(number).normal(colour, 30, (33, 47, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / split / name / f"{number}.png")
    ended = alexnet("evaluate", own_run, tmp_path / "data", "--json")
    assert told(ended)["images"] == 6 and told(ended)["top1_error"] == 0 and "the pictures in val/" in ended.out


def test_what_a_person_should_know_of_the_pictures_is_told(alexnet, own_run, own_pictures, tmp_path):
    (own_pictures / "red" / "notes.txt").write_text("mine")
    ended = alexnet("evaluate", own_run, own_pictures)
    assert ended.code == 0 and f"passed over, since their names are no pictures': {own_pictures}/red/notes" in ended.err


def test_a_run_that_cannot_be_written_is_judged_all_the_same_with_a_word(alexnet, own_run, pictures, largest_file):
    right = told(alexnet("evaluate", own_run, pictures, "--json"))
    shutil.rmtree(own_run / "predictions")
    with largest_file(10):
        full = alexnet("evaluate", own_run, pictures, "--json")
    assert kept(own_run) == []
    shutil.rmtree(own_run / "predictions")
    (own_run / "predictions").write_text("in the way")
    for ended in (full, alexnet("evaluate", own_run, pictures, "--json")):
        assert told(ended) == right
        (notice,) = [line for line in ended.err.splitlines() if "cannot write" in line]
        assert notice.startswith(f"not kept: {own_run}/predictions/step-000000008-") and "; " in notice
