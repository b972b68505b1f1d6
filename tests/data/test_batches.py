"""Batches: every sample once an epoch, in an order and with patches that any step can be entered at."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from alexnet.data.augment import Alterations, Images, drawn, order
from alexnet.data.batches import Batches, Portion
from alexnet.data.pictures import Pictures
from alexnet.data.squares import Squares
from alexnet.data.statistics import statistics
from alexnet.runtime.errors import BadInputError

COUNT, BATCH, SEED = 22, 5, 11
FIELDS = ("patches", "labels", "samples")
IMAGES = Images(side=12, patch=8, positions=5, colour="eigenvalue")
PIXELS = np.random.default_rng(1).integers(0, 256, (COUNT, 15, 18, 3)).astype(np.uint8)


def quiet(done, total):
    assert 0 < done <= total


def batches(images=IMAGES, batch=BATCH, seed=SEED, pixels=PIXELS.__getitem__, keep=False, threads=None, **rank):
    labels = np.arange(COUNT) % 3
    pictures = Pictures(labels, [f"{n}.png" for n in range(COUNT)], "", pixels)
    squares = Squares(pictures, images.side, images.shape, threads)
    if keep:
        squares.keep(quiet)
    return Batches(squares, images, STATISTICS, seed, batch, **rank)


def squares_of(pixels):
    pictures = Pictures(np.zeros(COUNT, np.int64), [str(n) for n in range(COUNT)], "", pixels.__getitem__)
    return Squares(pictures, IMAGES.side, IMAGES.shape)


STATISTICS = statistics(squares_of(PIXELS), quiet)


def equal(one, other):
    pairs = [(getattr(one, name), getattr(other, name)) for name in FIELDS]
    pairs += [(getattr(one.done, name), getattr(other.done, name)) for name in ("corners", "mirrored", "shifts")]
    return all(np.array_equal(*pair) for pair in pairs)


def same_stream(one, other):
    return len(one) == len(other) and all(equal(*pair) for pair in zip(one, other, strict=True))


@pytest.mark.parametrize("batch", [1, 5, 11, 22, 100])
def test_an_epoch_visits_every_sample_once_and_only_its_last_batch_is_smaller(batch):
    made = list(batches(batch=batch).epoch(3))
    sizes = [len(each.samples) for each in made]
    assert sum(sizes) == COUNT and all(size == batch for size in sizes[:-1]) and 0 < sizes[-1] <= batch
    assert len(made) == len(batches(batch=batch))
    samples = np.concatenate([each.samples for each in made])
    assert sorted(samples.tolist()) == list(range(COUNT))
    for each in made:
        assert each.patches.shape == (len(each.samples), 8, 8, 3) and each.patches.dtype == torch.uint8
        assert each.labels.tolist() == (each.samples % 3).tolist()


def test_an_epoch_can_be_entered_at_any_step():
    whole = list(batches().epoch(2))
    for step in range(len(whole) + 1):
        assert same_stream(list(batches().epoch(2, step)), whole[step:])


def test_the_stream_is_what_its_tables_say():
    samples = order(IMAGES, SEED, 4, COUNT)
    done = drawn(IMAGES, STATISTICS, SEED, 4, COUNT)
    corners = done.corners.tolist()
    whole = squares_of(PIXELS).gather(samples)
    expected = [one[top : top + 8, left : left + 8] for one, (top, left) in zip(whole, corners, strict=True)]
    made = list(batches().epoch(4))
    np.testing.assert_array_equal(np.concatenate([each.patches for each in made]), expected)
    for name in ("corners", "mirrored", "shifts"):
        np.testing.assert_array_equal(np.concatenate([getattr(each.done, name) for each in made]), getattr(done, name))
    np.testing.assert_array_equal(np.concatenate([each.samples for each in made]), samples)


@pytest.mark.parametrize("shared", [1, 4])
def test_three_epochs_are_the_same_for_any_number_of_threads_and_ranks_and_from_any_step(shared):
    images = replace(IMAGES, patch_shared_by=shared)
    for epoch in range(3):
        whole = list(batches(images, threads=1).epoch(epoch))
        for threads in (2, 4):
            assert same_stream(list(batches(images, threads=threads).epoch(epoch)), whole)
        for ranks in (2, 4):
            parts = [list(batches(images, rank=rank, ranks=ranks).epoch(epoch)) for rank in range(ranks)]
            assert same_stream([merged(batch) for batch in zip(*parts, strict=True)], whole)
        for step in range(len(whole)):
            assert same_stream(list(batches(images).epoch(epoch, step)), whole[step:])


@pytest.mark.parametrize(
    ("ranks", "portion", "group"), [(1, 2, 1), (2, 2, 1), (3, 1, 1), (1, 4, 2), (2, 2, 2), (4, 3, 3)]
)
def test_portions_of_shares_are_the_same_stream_and_every_rank_has_as_many(ranks, portion, group):
    """Batches of five, the last of two: shares of one image and of none among them."""
    whole = list(batches().epoch(1))
    parts = [
        list(batches(rank=rank, ranks=ranks, portion=portion, group=group).epoch(1)) for rank in range(ranks)
    ]  # fmt: skip
    for together in zip(*parts, strict=True):
        assert len({part.last for part in together}) == 1
    for part in (part for own in parts for part in own if part.weight):
        assert part.row % group == 0 and len(part.labels) <= portion, "a group is never divided"
        assert len(part.labels) % group == 0 or part.row + len(part.labels) == part.whole
    found = []
    for own in parts:
        steps = [[]]
        for part in own:
            steps[-1].append(part)
            if part.last:
                steps.append([])
        assert steps.pop() == []
        found.append(steps)
    assert same_stream([merged([part for own in step for part in own]) for step in zip(*found, strict=True)], whole)


def merged(parts):
    """The batch that several ranks' shares make up."""
    here = [part for part in parts if part.weight]
    done = [np.concatenate([getattr(part.done, name) for part in here]) for name in ("corners", "mirrored", "shifts")]
    patches, labels, samples = (np.concatenate([getattr(part, name) for part in here]) for name in FIELDS)
    assert [part.row for part in here] == np.cumsum([0, *(len(part.labels) for part in here)])[:-1].tolist()
    assert {part.whole for part in parts} == {len(labels)} and all(len(part.labels) >= 1 for part in parts)
    assert all(part.weight == len(part.labels) / part.whole and part.own_weight <= part.weight for part in here)
    patches, count, last = torch.from_numpy(patches), len(labels), parts[-1].last
    return Portion(patches, Alterations(*done), samples, labels, 0, (count,), 1.0, 1.0, (count,), count, last)


def test_pictures_kept_in_memory_give_the_same_stream_as_pictures_read_again():
    assert same_stream(list(batches(keep=True).epoch(1)), list(batches().epoch(1)))


def test_the_stream_does_not_depend_on_who_else_draws_random_numbers():
    whole = list(batches().epoch(0))
    np.random.seed(5)
    made = []
    for each in batches().epoch(0):
        np.random.random(3)
        made.append(each)
    assert same_stream(made, whole)


def test_batches_of_another_size_hold_the_same_samples_with_the_same_patches():
    # What happens to a sample hangs on its position in the epoch, not on the step that it falls into.
    for shared in (1, 4):
        images = replace(IMAGES, patch_shared_by=shared)
        one, other = (list(batches(images, batch=size).epoch(1)) for size in (5, 7))
        np.testing.assert_array_equal(*(np.concatenate([each.patches for each in made]) for made in (one, other)))


def test_another_epoch_and_another_seed_have_another_order_and_other_patches():
    first = next(batches(batch=COUNT).epoch(0))
    for other in (next(batches(batch=COUNT).epoch(1)), next(batches(batch=COUNT, seed=SEED + 1).epoch(0))):
        assert first.samples.tolist() != other.samples.tolist()
        by_sample, others = (each.patches[np.argsort(each.samples)] for each in (first, other))
        alike = [np.array_equal(*pair) for pair in zip(by_sample, others, strict=True)]
        assert sum(alike) < COUNT / 4


def test_a_fixed_order_is_shuffled_once_while_its_patches_change():
    images = replace(IMAGES, order="fixed")
    first, second = (next(batches(images, batch=COUNT).epoch(epoch)) for epoch in (0, 1))
    assert first.samples.tolist() == second.samples.tolist() != list(range(COUNT))
    assert not np.array_equal(first.patches, second.patches)


def test_the_patches_within_a_batch_differ():
    same = np.broadcast_to(PIXELS[0], PIXELS.shape)
    made = next(batches(replace(IMAGES, colour="none"), batch=COUNT, pixels=same.__getitem__).epoch(0))
    assert len(np.unique(made.patches.reshape(COUNT, -1), axis=0)) > COUNT / 2


def test_a_damaged_picture_stops_the_epoch_by_name_after_the_batches_before_it():
    bad = int(order(IMAGES, SEED, 0, COUNT)[2 * BATCH + 1])

    def pixels(number):
        if number == bad:
            raise BadInputError(f"{number}.png: damaged")
        return PIXELS[number]

    made = []
    with pytest.raises(BadInputError, match=f"^{bad}.png: damaged"):
        made.extend(batches(pixels=pixels).epoch(0))
    epoch = batches(pixels=pixels).epoch(0)
    assert same_stream([next(epoch), next(epoch)], list(batches().epoch(0))[:2])
    epoch.close()


def test_an_epoch_that_is_left_early_leaves_no_thread_behind():
    kept = batches(keep=True)

    def makers():
        return [thread for thread in threading.enumerate() if thread.name.startswith("batches")]

    epoch = kept.epoch(0)
    next(epoch)
    assert len(makers()) == 1
    epoch.close()
    assert makers() == []
