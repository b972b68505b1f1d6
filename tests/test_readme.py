"""The README says what is true: its commands parse, its results are the records', its links lead somewhere."""

import re
import runpy
from pathlib import Path

import pytest

from alexnet.command_line import VERBS
from alexnet.training.recipe import settable
from tables import TABLES, filled

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^alexnet (\S+)", README, re.MULTILINE)


def test_every_verb_in_the_readme_exists_and_every_verb_is_in_the_readme() -> None:
    assert set(COMMANDS) == set(VERBS)


@pytest.mark.parametrize("option", sorted(set(re.findall(r"--([a-z]+\.[a-z_]+)", README))))
def test_every_number_set_in_the_readme_can_be_set(option: str) -> None:
    assert option in settable()


def test_the_results_are_those_of_the_records() -> None:
    table = runpy.run_path(str(ROOT / "records" / "table.py"))
    assert table["block"](README) == table["table"]()


@pytest.mark.parametrize("document", TABLES)
def test_the_tables_of_speed_are_those_of_the_records(document: str) -> None:
    text = (ROOT / document).read_text()
    assert filled(text, TABLES[document]) == text, "python benchmarks/tables.py --write"


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_every_link_leads_to_a_file(link: str) -> None:
    assert (ROOT / link).exists()


def test_the_two_commands_are_targets_of_the_makefile_and_ci_calls_the_second() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\S+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    assert "make test" in (ROOT / ".ci" / "run").read_text()
