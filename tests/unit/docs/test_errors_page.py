"""docs/errors.md holds every wire code, and each with the status, type and advice that the source gives it."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest
from unit.docs.wire_codes import ROOT, Raised, raised, unused_classes

PAGE = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+)` \| (\d+) \| `(\w+)` \| (yes|no) \| (.+) \|$", re.MULTILINE)


class Row(NamedTuple):
    type: str
    code: str
    status: str
    repeat: str


ROWS = [Row(type, code, status, repeat) for code, status, type, repeat, _ in ROW.findall(PAGE)]
RAISED = sorted(raised(), key=str)


def test_every_code_of_the_source_is_on_the_page_and_every_code_of_the_page_is_in_the_source() -> None:
    assert {(row.type, row.code) for row in ROWS} == {(error.type, error.code) for error in RAISED}


def test_no_code_is_on_the_page_twice() -> None:
    """A code that comes with two statuses has a row for each."""
    assert len({(row.type, row.code, row.status) for row in ROWS}) == len(ROWS)


def test_every_row_of_the_tables_has_the_form_that_is_checked() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert len(rows) == len(ROWS)


@pytest.mark.parametrize("error", [error for error in RAISED if error.status is not None], ids=lambda error: error.code)
def test_the_page_gives_the_statuses_that_the_source_gives_and_no_others(error: Raised) -> None:
    given = {other.status for other in RAISED if (other.type, other.code) == (error.type, error.code)} - {None}
    assert {row.status for row in _rows(error)} == {str(status) for status in given}


@pytest.mark.parametrize(
    "error", [error for error in RAISED if error.retryable is not None], ids=lambda error: error.code
)
def test_the_page_says_to_repeat_what_the_source_calls_retryable(error: Raised) -> None:
    assert {row.repeat for row in _rows(error)} == {"yes" if error.retryable else "no"}


def test_every_class_of_errors_is_used() -> None:
    assert unused_classes() == set()


def _rows(error: Raised) -> list[Row]:
    return [row for row in ROWS if (row.type, row.code) == (error.type, error.code)]
