"""What a preparation does not do: go over something else, lose a picture in silence, be stopped for good."""

import json
import shutil
from pathlib import Path

import pytest
from storing import KINDS, SIDE, contents, made, opened

from alexnet.data import decode
from alexnet.data.pictures import check_learnable
from alexnet.data.preparation import Preparation, advised, sizes
from alexnet.data.prepare import prepare
from alexnet.data.sources import open_dataset
from alexnet.runtime.errors import BadInputError, MachineError, UsageError

SHARED = Path(__file__).parents[3] / "shared" / "data"


def test_a_store_that_is_there_is_left_as_it_is_and_another_is_not_made_over_it(pictures, own_pictures, tmp_path):
    store = tmp_path / "store"
    made(pictures, store)
    before = contents(store)
    assert made(pictures, store).made == 0 and contents(store) == before
    for options in ({"side": 16}, {"kind": "jpeg"}, {"shape": "squashed"}, {"filter": "area"}):
        with pytest.raises(BadInputError, match=f"^{store}: is a store of something else, or made otherwise; name"):
            made(pictures, store, **options)
    shutil.copy(own_pictures / "red" / "00.jpg", own_pictures / "red" / "99.jpg")
    with pytest.raises(BadInputError, match=f"^{store}: is a store of something else"):
        made(own_pictures, store)
    assert contents(store) == before


def test_what_a_store_that_was_killed_at_its_very_end_left_is_tidied_up(pictures, tmp_path):
    made(pictures, tmp_path / "store")
    before = contents(tmp_path / "store")
    (tmp_path / "store" / "parts").mkdir()
    (tmp_path / "store" / "store.unfinished.json").write_text("{}")
    assert made(pictures, tmp_path / "store").made == 0
    assert contents(tmp_path / "store") == before


@pytest.mark.parametrize("kind", KINDS)
def test_an_unfinished_store_is_taken_for_nothing_else(pictures, tmp_path, kind, small_shards):
    def stop(done, total):
        if done > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(open_dataset(str(pictures)), tmp_path / "store", Preparation(kind, SIDE), stop)
    with pytest.raises(BadInputError, match=f"^{tmp_path}/store: an unfinished store; the same alexnet prepare again"):
        open_dataset(str(tmp_path / "store"))


def test_a_stop_while_the_plan_is_written_hinders_nothing(pictures, tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / ".store.unfinished.json.partial").write_text("{")
    assert made(pictures, tmp_path / "store").images == 36


def test_a_damaged_plan_is_told(pictures, tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "store.unfinished.json").write_text("{")
    with pytest.raises(BadInputError, match="holds the beginning of another preparation"):
        made(pictures, tmp_path / "store")


def test_a_picture_that_was_mended_is_prepared_after_all(own_pictures, tmp_path):
    file = own_pictures / "red" / "02.jpg"
    whole = file.read_bytes()
    file.write_bytes(whole[:200])
    with pytest.raises(BadInputError, match=f"^{file}: damaged picture"):
        made(own_pictures, tmp_path / "store")
    file.write_bytes(whole)
    result = made(own_pictures, tmp_path / "store")
    assert (result.images, result.skipped) == (36, [])


def test_a_split_that_damage_has_emptied_is_no_split(own_pictures, tmp_path):
    dataset = open_dataset(str(own_pictures))
    for key in dataset.held_out.keys:
        (own_pictures / key).write_bytes(b"damaged")
    with pytest.raises(BadInputError, match="every picture of the split val is damaged; mend some"):
        made(own_pictures, tmp_path / "store", skip=6)


@pytest.mark.parametrize("lost", ["training", "held_out", "both"])
def test_a_class_that_damage_has_left_one_picture_or_none_is_not_learned_from_alone(own_pictures, tmp_path, lost):
    for file in (own_pictures / "red").iterdir():
        if file.stem not in ("00", "01"):
            file.unlink()
    dataset = open_dataset(str(own_pictures))
    for part in ("training", "held_out") if lost == "both" else (lost,):
        for key in getattr(dataset, part).keys:
            if key.startswith("red/"):
                (own_pictures / key).write_bytes(b"damaged")
    if lost == "held_out":
        made(own_pictures, tmp_path / "store", skip=2)
        with pytest.raises(BadInputError, match=r"red/0[01]\.\w+: the only picture of class red; add more"):
            check_learnable(opened(tmp_path / "store"))
    else:
        with pytest.raises(BadInputError, match=r"/colours/: every picture of class red is damaged; mend some"):
            made(own_pictures, tmp_path / "store", skip=2)
        assert not (tmp_path / "store" / "store.json").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_preparing_again_does_not_call_a_damaged_store_whole(pictures, tmp_path, kind):
    store = tmp_path / "store"
    for damage in ("shard cut", "shard gone", "index gone", "skipped.jsonl gone"):
        shutil.rmtree(store, ignore_errors=True)
        made(pictures, store, kind)
        shard = next(store.glob("train-000000.*"))
        match damage:
            case "shard cut":
                shard.write_bytes(shard.read_bytes()[:-1])
            case "shard gone":
                shard.unlink()
            case "index gone":
                (store / "train.index.npy").unlink()
            case _:
                (store / "skipped.jsonl").unlink()
        with pytest.raises(BadInputError, match=f"^{store}/.*; remove the store, and prepare it again"):
            made(pictures, store, kind)


def test_a_shard_cut_short_between_two_sittings_is_made_anew(pictures, tmp_path, small_shards):
    def stop(done, total):
        if done > 20:
            raise KeyboardInterrupt

    made(pictures, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        prepare(open_dataset(str(pictures)), tmp_path / "store", Preparation("pixels", SIDE), stop)
    shard = tmp_path / "store" / "train-000001.npy"
    shard.write_bytes(shard.read_bytes()[:5000])
    assert made(pictures, tmp_path / "store").made < 36
    assert contents(tmp_path / "store") == contents(tmp_path / "whole")


def test_nothing_in_a_folder_of_somebody_elses_is_touched(pictures, tmp_path):
    mine = tmp_path / "mine"
    (mine / ".work.partial").mkdir(parents=True)
    for file in (".work.partial/chapter", ".download.partial", ".lock", "plan.json"):
        (mine / file).write_text("mine")
    before = {file: file.read_text() for file in mine.rglob("*") if file.is_file()}
    with pytest.raises(BadInputError, match="is not empty and holds no store"):
        made(pictures, mine)
    assert {file: file.read_text() for file in mine.rglob("*") if file.is_file()} == before


def test_the_squares_of_a_store_have_the_shape_they_have(pictures, tmp_path, alexnet):
    made(pictures, tmp_path / "squashed", shape="squashed")
    with pytest.raises(UsageError, match=r"^--shape: cropped; the source is a store, whose squares are squashed"):
        made(tmp_path / "squashed", tmp_path / "again")
    assert alexnet("prepare", tmp_path / "squashed", tmp_path / "again", "--side", 16).code == 0
    assert opened(tmp_path / "again").shape == "squashed"


def test_a_target_that_is_a_link_to_itself_is_told(pictures, tmp_path, alexnet):
    (tmp_path / "self").symlink_to("self")
    ended = alexnet("prepare", pictures, tmp_path / "self", "--quiet")
    assert ended.one_line("prepare", 4).startswith(f"{tmp_path}/self: cannot write: file exists; ")


def test_a_store_among_the_pictures_it_would_be_made_from_is_refused(alexnet, own_pictures):
    ended = alexnet("prepare", own_pictures, own_pictures / "store")
    assert ended.code == 2 and f"{own_pictures}/store: lies among the pictures it would be made from; " in ended.err
    assert not (own_pictures / "store").exists()


def test_fewer_than_no_damaged_pictures_cannot_be_left_out(pictures, tmp_path):
    with pytest.raises(UsageError, match=r"^--skip-bad: -1; is at least 0$"):
        made(pictures, tmp_path / "store", skip=-1)


def test_the_beginning_of_another_store_and_a_full_folder_are_left_alone(pictures, tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(open_dataset(str(pictures)), tmp_path / "begun", Preparation("pixels", SIDE), stop)
    with pytest.raises(BadInputError, match=r"/begun: holds the beginning of another preparation"):
        made(pictures, tmp_path / "begun", side=16)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(BadInputError, match=r"/full: is not empty and holds no store; name another folder"):
        made(pictures, tmp_path / "full")
    assert (tmp_path / "full" / "thesis.txt").read_text() == "mine"


def test_damaged_pictures_end_it_by_name_or_are_left_out_and_counted(own_pictures, tmp_path):
    bad = own_pictures / "red" / "02.jpg", own_pictures / "blue" / "03.png"
    for file in bad:
        file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(BadInputError) as told:
        made(own_pictures, tmp_path / "store", skip=1)
    assert any(str(told.value).startswith(f"{file}: damaged picture") for file in bad)
    assert "--skip-bad 2" in str(told.value) and "\n" not in str(told.value)
    result = made(own_pictures, tmp_path / "store", skip=2)
    assert (result.images, sorted(name for name, _ in result.skipped)) == (34, sorted(map(str, bad)))
    store = opened(tmp_path / "store")
    assert len(store.training) + len(store.held_out) == 34
    assert not {f"{file.parent.name}/{file.name}" for file in bad} & {*store.training.keys, *store.held_out.keys}
    lines = [json.loads(line) for line in (tmp_path / "store" / "skipped.jsonl").read_text().splitlines()]
    assert sorted(line["picture"] for line in lines) == sorted(map(str, bad))
    assert made(own_pictures, tmp_path / "store", skip=2).skipped == result.skipped


def test_sizes_are_told_and_few_pictures_are_kept_as_pixels(pictures):
    dataset = open_dataset(str(pictures))
    assert advised(dataset, 256) == "pixels"
    assert sizes(dataset, 256)["pixels"] == 36 * 256 * 256 * 3
    for options in ({"side": 0}, {"quality": 0}, {"quality": 96}, {"side": 5000}):
        with pytest.raises(UsageError):
            Preparation("jpeg", **options).check()


def test_a_full_disk_is_told_and_the_rest_is_made_later(pictures, tmp_path, largest_file):
    with largest_file(20_000), pytest.raises(MachineError, match="cannot write: file too large; "):
        made(pictures, tmp_path / "store")
    assert not (tmp_path / "store" / "store.json").exists()
    made(pictures, tmp_path / "store")
    made(pictures, tmp_path / "undisturbed")
    assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")


def test_a_picture_for_which_the_memory_did_not_suffice_is_not_left_out(alexnet, pictures, tmp_path, monkeypatch):
    def exhausted(image):
        raise MemoryError

    monkeypatch.setattr(decode, "_rgb", exhausted)
    words = ("prepare", pictures, tmp_path / "store", "--side", SIDE, "--quiet", "--skip-bad", 99)
    assert alexnet(*words).one_line("prepare", 4).startswith("memory: not enough; ")
    assert not (tmp_path / "store" / "store.json").exists()
