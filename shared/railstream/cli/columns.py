"""Rows in aligned columns, as wide as they are: ids are there to be copied, so nothing is cut or wrapped."""

from __future__ import annotations

from collections.abc import Sequence


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The header and the rows, one line each; an empty cell is shown as ``-``."""
    lines = [[name.upper() for name in header], *([cell or "-" for cell in row] for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(header))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def duration(seconds: float | None) -> str:
    """``850 ms``, ``3.2 s``, ``4 min``, ``2.5 h``; empty when it is not known."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
