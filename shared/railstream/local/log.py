"""What the processes of the stack say, line by line on one output, each behind its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TextIO

from rich.console import Console
from rich.style import Style

COLOURS = {"up": "bold", "redis": "red", "gateway": "cyan"}
WORKER_COLOURS = ("green", "magenta", "yellow", "blue")


class Log:
    """Writes ``name | line``. An output that is gone is reported once, through ``on_closed``."""

    def __init__(self, file: TextIO, names: Iterable[str], on_closed: Callable[[], None] = lambda: None) -> None:
        self._file = file
        self._on_closed = on_closed
        width = max(map(len, names), default=0)
        console = Console(file=file)
        self._prefixes = {name: _prefix(console, name, width) for name in names}

    def line(self, name: str, text: str) -> None:
        self._write(f"{self._prefixes[name]}{text}\n")

    def block(self, text: str) -> None:
        """Text to copy from: without prefixes."""
        self._write(f"\n{text}\n\n")

    def _write(self, text: str) -> None:
        try:
            self._file.write(text)
            self._file.flush()
        except (BrokenPipeError, ValueError):  # `railstream up | head`: nobody reads any more
            self._on_closed()


def _prefix(console: Console, name: str, width: int) -> str:
    number = name.rpartition("-")[2]
    style = COLOURS.get(name) or WORKER_COLOURS[int(number) % len(WORKER_COLOURS) if number.isdigit() else 0]
    prefix = f"{name:<{width}} | "
    return Style.parse(style).render(prefix) if console.is_terminal and not console.no_color else prefix
