"""The page about a run, whatever its classes are called."""

import json
import os

import pytest

pytest.importorskip("matplotlib")

from alexnet.report.page import write_report


def test_a_class_whose_name_is_no_utf_8_has_a_page_too(own_run):
    classes = ["blue", os.fsdecode(b"caf\xe9"), "Ünïcødé <日本>"]
    (own_run / "classes.json").write_text(json.dumps(classes))
    page = write_report(own_run).read_text(encoding="utf-8")
    assert r"caf\udce9" in page and "Ünïcødé &lt;日本&gt;" in page
