"""What a case finds: rows that a budget judges, and the runs they come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. ``limit`` is the most it may be (or, ``at_least``, the least); ``None``: it is only told."""

    case: str
    name: str
    value: float
    unit: str
    limit: float | None = None
    at_least: bool = False
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.limit is None:
            return ""
        good = self.value >= self.limit if self.at_least else self.value <= self.limit
        return "kept" if good else "missed"

    @property
    def budget(self) -> str:
        if self.limit is None:
            return ""
        return f"{'≥' if self.at_least else '≤'} {round(self.limit, 2):g} {self.unit}"

    def as_json(self) -> dict[str, Any]:
        return {
            "case": self.case,
            "name": self.name,
            "value": round(self.value, 3),
            "unit": self.unit,
            "limit": self.limit,
            "verdict": self.verdict,
            "note": self.note,
        }


@dataclass(slots=True)
class Findings:
    """Everything that was measured: ``rows`` for the table, ``details`` for the JSON, by case."""

    rows: list[Row] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    say: Callable[[str], None] = print

    def add(self, *rows: Row) -> None:
        self.rows.extend(rows)

    @property
    def missed(self) -> list[Row]:
        return [row for row in self.rows if row.verdict == "missed"]
