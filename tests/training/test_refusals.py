"""What the disk refuses and what is damaged: told, and no more is lost than has to be."""

import pytest
from resuming import Watching, begin, differing, left, stopped

from alexnet.data.squares import Squares
from alexnet.runtime import checkpoint
from alexnet.runtime.errors import BadInputError, MachineError
from alexnet.runtime.run_folder import Journal


class FullFor(Watching):
    """A disk on which nothing larger than the journal fits, between the judging of two epochs."""

    def __init__(self, limit, first, last):
        super().__init__()
        self.limit, self.first, self.last = limit, first, last

    def event(self, event):
        if event["event"] == "judging" and event["epoch"] == self.first:
            self.limit.__enter__()
        if event["event"] == "judging" and event["epoch"] == self.last:
            self.limit.__exit__(None, None, None)


def test_a_save_that_the_disk_refuses_is_told_and_the_run_goes_on(
    recipe, dataset, lineage, undisturbed, tmp_path, largest_file
):
    display = FullFor(largest_file(20_000), first=1, last=2)
    assert not stopped(begin(recipe, dataset, tmp_path / "run", display, lineage))
    assert len(display.said) == 1
    assert (
        "step-000000004: cannot write: file too large" in display.said[0]
        and "the next save tries again" in display.said[0]
    )
    assert differing(left(tmp_path / "run"), undisturbed) == []


def test_a_last_save_that_the_disk_refuses_ends_the_run_as_the_machines_fault(
    recipe, dataset, lineage, undisturbed, tmp_path, largest_file
):
    full = largest_file(20_000)
    with pytest.raises(MachineError, match="step-000000012: cannot write: file too large"):
        begin(recipe, dataset, tmp_path / "run", FullFor(full, first=3, last=0), lineage).run()
    full.__exit__(None, None, None)
    assert checkpoint.newest(tmp_path / "run" / "checkpoints").name == "step-000000008"
    assert not stopped(begin(recipe, dataset, tmp_path / "run", Watching(), lineage))
    assert differing(left(tmp_path / "run"), undisturbed) == []


def test_a_journal_that_the_disk_refuses_ends_the_run_which_can_be_resumed(
    recipe, dataset, lineage, undisturbed, tmp_path, largest_file
):
    with largest_file(1200), pytest.raises(MachineError, match=r"journal\.jsonl: cannot write"):
        begin(recipe, dataset, tmp_path / "run", Watching(), lineage).run()
    assert not stopped(begin(recipe, dataset, tmp_path / "run", Watching(), lineage))
    assert differing(left(tmp_path / "run"), undisturbed) == []


def test_a_line_that_could_not_be_written_is_written_when_the_run_goes_on(
    recipe, dataset, lineage, undisturbed, tmp_path, monkeypatch
):
    """What was counted for it is not in a checkpoint."""
    write, lines = Journal.write, []

    def refused_once(journal, **event):
        lines.append(event)
        if len(lines) == 7:
            raise MachineError("journal.jsonl: cannot write: input/output error")
        write(journal, **event)

    monkeypatch.setattr(Journal, "write", refused_once)
    with pytest.raises(MachineError, match="input/output"):
        begin(recipe, dataset, tmp_path / "run", Watching(), lineage).run()
    assert not stopped(begin(recipe, dataset, tmp_path / "run", Watching(), lineage))
    assert differing(left(tmp_path / "run"), undisturbed) == []


@pytest.mark.parametrize(("batch", "saved"), [(0, None), (3, "step-000000003"), (6, "step-000000005")])
def test_what_was_learned_before_a_damaged_picture_is_saved(
    recipe, dataset, lineage, undisturbed, tmp_path, monkeypatch, batch, saved
):
    patches, calls = Squares.patches, []

    def damaged(*given):
        calls.append(1)
        if len(calls) == batch + 1:
            raise BadInputError("red/03.jpg: damaged; mend it")
        return patches(*given)

    run = begin(recipe, dataset, tmp_path / "run", Watching(), lineage)
    monkeypatch.setattr(Squares, "patches", damaged)
    with pytest.raises(BadInputError, match=r"red/03\.jpg: damaged"):
        run.run()
    newest = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert saved == (newest and newest.name), "the fifth call is for the pictures that are judged"
    assert not stopped(begin(recipe, dataset, tmp_path / "run", Watching(), lineage))
    assert differing(left(tmp_path / "run"), undisturbed) == []
