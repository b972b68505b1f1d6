"""The page about a run, whatever its classes are called."""

import json
import os
import re

import pytest

pytest.importorskip("matplotlib")

from alexnet.data.sources import open_dataset
from alexnet.judge import judge
from alexnet.report.page import write_report
from alexnet.runtime.errors import BadInputError


def test_a_class_whose_name_is_no_utf_8_has_a_page_too(own_run):
    classes = ["blue", os.fsdecode(b"caf\xe9"), "Ünïcødé <日本>"]
    (own_run / "classes.json").write_text(json.dumps(classes))
    page = write_report(own_run).read_text(encoding="utf-8")
    assert r"caf\udce9" in page and "Ünïcødé &lt;日本&gt;" in page


def errors_on(page):
    return re.findall(r"<b>([0-9.]+) %</b>\s*<span class=\"what\">top-1 error, ([^<]*)<br>", page)


def test_a_run_that_was_stopped_says_so_and_whose_error_it_shows(own_run, pictures):
    """What was judged behind the first epoch is not of the weights that the page shows."""
    (own_run / "result.json").unlink()
    lines = (own_run / "journal.jsonl").read_text().splitlines(keepends=True)
    last = max(number for number, line in enumerate(lines) if '"judging"' in line)
    first = json.loads(next(line for line in lines if '"judging"' in line))
    (own_run / "journal.jsonl").write_text("".join(lines[:last]))
    page = write_report(own_run).read_text()
    assert "Not finished: 1 of 2 epochs, 8 steps." in page
    assert errors_on(page) == [(f"{first['top1_error'] * 100:.2f}", "one view, after epoch 1")]
    judged = judge(own_run, open_dataset(str(pictures)), 1, lambda *done: None)
    page = write_report(own_run).read_text()
    assert errors_on(page) == [(f"{judged.errors()[0] * 100:.2f}", "one view")]


def test_a_finished_run_says_nothing_of_the_kind(own_run):
    page = write_report(own_run).read_text()
    assert "Not finished" not in page and [how for _, how in errors_on(page)] == ["one view"]


@pytest.mark.parametrize("name", ["data.json", "environment.json", "recipe.json", "journal.jsonl"])
@pytest.mark.parametrize("content", ["7\n", "[]\n", "null\n", '"x"\n'])
def test_a_damaged_file_is_named(own_run, name, content):
    (own_run / name).write_text(content)
    with pytest.raises(BadInputError, match=f"^{own_run / name}:? .*train again"):
        write_report(own_run)
