"""Row groups: memory stays bounded however many pictures there are, and many threads may ask at once."""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import numpy as np
import pytest
from alike import png
from rows import parquet, pyarrow

from alexnet.data.layouts import parquet as layout
from alexnet.data.layouts import row_groups
from alexnet.data.layouts.row_groups import RowGroups
from alexnet.data.preparation import Preparation
from alexnet.data.prepare import prepare
from alexnet.data.sources import open_dataset
from alexnet.runtime.errors import BadInputError

GROUP, GROUPS = 5, 8


def colour(row):
    return (row, 255 - row, 7)


@pytest.fixture
def file(tmp_path):
    """Forty pictures in row groups of five, each picture told by its colour."""
    file = tmp_path / "train.parquet"
    rows = [{"bytes": png(colour(row)), "path": f"{row}.png"} for row in range(GROUP * GROUPS)]
    labels = pyarrow.array([row % 2 for row in range(len(rows))])
    parquet.write_table(pyarrow.table({"label": labels, "image": rows}), file, row_group_size=GROUP)
    return file


@pytest.fixture
def reads(monkeypatch):
    """The groups in the order in which they are read from the file."""
    read, groups = layout._read_group, []

    def counted(file, group):
        groups.append(group)
        return read(file, group)

    monkeypatch.setattr(layout, "_read_group", counted)
    return groups


def rows_of(part):
    """The number that each picture has by its place in the part, by its row."""
    return {int(key.rpartition(" ")[2]): number for number, key in enumerate(part.keys)}


def ask(dataset, row):
    part = dataset.training if row in rows_of(dataset.training) else dataset.held_out
    assert part.pixels(rows_of(part)[row])[0, 0].tolist() == list(colour(row))


def test_opening_reads_labels_only(file, reads, monkeypatch):
    columns = []
    read = parquet.ParquetFile.read
    monkeypatch.setattr(
        parquet.ParquetFile, "read", lambda self, **how: (columns.append(how["columns"]), read(self, **how))[1]
    )
    assert len(open_dataset(str(file)).training) == 32
    assert (columns, reads) == ([["label"]], [])


def test_a_small_file_stays_whole(file, reads):
    dataset = open_dataset(str(file))
    for row in [*range(40), *range(39, -1, -1)]:
        ask(dataset, row)
    assert reads == list(range(GROUPS))


def test_one_group_is_kept_however_large(file, reads, monkeypatch):
    monkeypatch.setattr(row_groups, "KEPT", 1)
    dataset = open_dataset(str(file))
    for row in (0, 4, 5, 9, 3, 39):
        ask(dataset, row)
    assert reads == [0, 1, 0, 7]


class Rows(list):
    def __init__(self, group, size):
        super().__init__((group, row) for row in range(3))
        self.nbytes = size


def test_the_groups_used_last_are_kept_up_to_the_limit(monkeypatch):
    monkeypatch.setattr(row_groups, "KEPT", 100)
    reads = []

    def read(group):
        reads.append(group)
        return Rows(group, 120 if group == 4 else 40)

    groups = RowGroups([3] * 6, read)
    for number, expected in ((0, [0]), (3, [1]), (2, []), (6, [2]), (1, []), (4, [1]), (8, [2]), (14, [4]), (5, [1])):
        reads.clear()
        assert groups.row(number) == (number // 3, number % 3)
        assert reads == expected, f"asked for row {number}"
        assert groups._size == sum(rows.nbytes for rows in groups._kept.values())
        assert groups._size <= 100 or len(groups._kept) == 1


def test_rows_are_found_in_groups_of_any_length():
    lengths = [2, 0, 3, 0, 0, 1, 0]
    groups = RowGroups(lengths, lambda group: np.array([10 * group + row for row in range(lengths[group])]))
    assert [int(groups.row(number)) for number in range(6)] == [0, 1, 20, 21, 22, 50]


@pytest.mark.parametrize("kept", [1, 2**20])
def test_many_threads_ask_at_once(file, reads, monkeypatch, kept):
    monkeypatch.setattr(row_groups, "KEPT", kept)
    part = open_dataset(str(file)).training
    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            order = np.random.default_rng(0).integers(0, len(part), 400).tolist()
            pixels = list(pool.map(part.pixels, order))
    finally:
        sys.setswitchinterval(switching)
    rows = [int(part.keys[number].rpartition(" ")[2]) for number in order]
    assert [found[2, 2].tolist() for found in pixels] == [list(colour(row)) for row in rows]
    assert (len(reads) == GROUPS) == (kept > 1)


def test_pictures_are_decoded_at_the_same_time(file, monkeypatch):
    both, decode = Barrier(2, timeout=20), layout.decode

    def together(encoded, name):
        both.wait()  # broken when the other thread cannot come here
        return decode(encoded, name)

    monkeypatch.setattr(layout, "decode", together)
    part = open_dataset(str(file)).training
    with ThreadPoolExecutor(2) as pool:
        assert len(list(pool.map(part.pixels, (0, 1)))) == 2


def test_a_split_is_prepared_with_each_group_read_once_and_its_pictures_in_no_order(file, reads, monkeypatch, tmp_path):
    sizes = [parquet.ParquetFile(file).metadata.row_group(group).total_byte_size for group in range(GROUPS)]
    monkeypatch.setattr(row_groups, "KEPT", 7 * max(sizes))
    dataset = open_dataset(str(file))
    training = replace(dataset, held_out=dataset.held_out.choose(np.arange(0)), divided_here=False)
    prepare(training, tmp_path / "store", Preparation("pixels", 8), lambda done, total: None, threads=2)
    assert sorted(reads) == list(range(GROUPS)), "three stretches of three, three and two groups"
    assert reads != sorted(reads)
    made = open_dataset(str(tmp_path / "store")).training
    assert sorted(made.keys) == sorted(dataset.training.keys)
    groups = [int(key.rpartition(" ")[2]) // GROUP for key in made.keys]
    assert len(set(groups[:9])) == 3 and groups[:9] != sorted(groups[:9]), "groups of one stretch are mixed"


def test_a_file_whose_groups_were_divided_anew_is_another_source_for_a_store_that_was_begun(
    file, monkeypatch, tmp_path
):
    monkeypatch.setattr(row_groups, "KEPT", 1)  # each group is a stretch, so that the order depends on them

    def stop(done, total):
        raise KeyboardInterrupt

    how = Preparation("pixels", 8)
    with pytest.raises(KeyboardInterrupt):
        prepare(open_dataset(str(file)), tmp_path / "store", how, stop)
    table = parquet.read_table(file)
    parquet.write_table(table, file, row_group_size=GROUP - 1)
    with pytest.raises(BadInputError, match=f"^{tmp_path}/store: holds the beginning of another preparation"):
        prepare(open_dataset(str(file)), tmp_path / "store", how, lambda done, total: None)
    parquet.write_table(table, file, row_group_size=GROUP)
    assert prepare(open_dataset(str(file)), tmp_path / "store", how, lambda done, total: None).images == 40


def test_a_file_that_changes_or_goes_is_named(file):
    part = open_dataset(str(file)).training
    part.pixels(0)
    table = parquet.read_table(file)
    parquet.write_table(table, file, row_group_size=GROUP - 1)
    with pytest.raises(BadInputError, match=f"^{file}: has changed"):
        part.pixels(31)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(BadInputError, match=f"^{file}: not a readable Parquet file"):
        part.pixels(31)
    file.unlink()
    with pytest.raises(BadInputError, match=f"^{file}: not a readable Parquet file"):
        part.pixels(31)
    assert part.pixels(0).shape == (4, 4, 3), "its group was read before"
