"""What processes cost, from /proc: CPU time and memory of process trees, and how busy the whole machine is."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")

Parts = Mapping[str, tuple[int, ...]]
"""Process ids by the part of the system that they are; children count with their parents."""


@dataclass(frozen=True, slots=True)
class _Status:
    parent: int
    seconds: float
    resident: int


def _status(pid: int) -> _Status | None:
    try:
        fields = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return _Status(int(fields[1]), (int(fields[11]) + int(fields[12])) / TICKS, int(fields[21]) * PAGE)


def _trees(parts: Parts) -> dict[str, list[_Status]]:
    found = {int(path.name): _status(int(path.name)) for path in PROC.glob("[0-9]*")}
    statuses = {pid: status for pid, status in found.items() if status is not None}
    return {part: [statuses[pid] for pid in _tree(pids, statuses)] for part, pids in parts.items()}


def _tree(roots: Iterable[int], statuses: Mapping[int, _Status]) -> set[int]:
    tree = {pid for pid in roots if pid in statuses}
    while more := {pid for pid, status in statuses.items() if status.parent in tree} - tree:
        tree |= more
    return tree


def cpu_seconds(parts: Parts) -> dict[str, float]:
    """User and system time so far, by part."""
    return {part: sum(status.seconds for status in tree) for part, tree in _trees(parts).items()}


def resident(parts: Parts) -> dict[str, int]:
    """Resident bytes, by part."""
    return {part: sum(status.resident for status in tree) for part, tree in _trees(parts).items()}


def machine_seconds() -> float:
    """CPU time that the whole machine has spent, its own hypervisor's theft included."""
    fields = [int(field) for field in (PROC / "stat").read_text(encoding="ascii").splitlines()[0].split()[1:9]]
    user, nice, system, _, _, interrupts, soft, stolen = fields
    return (user + nice + system + interrupts + soft + stolen) / TICKS


class MemoryWatch:
    """``async with MemoryWatch(parts) as watch: …watch.peak…``: the most that each part had resident."""

    INTERVAL = 0.2
    """Seconds between looks."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.before = resident(parts)
        self.peak = dict(self.before)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> MemoryWatch:
        self._task = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    @property
    def growth(self) -> dict[str, int]:
        return {part: self.peak[part] - self.before[part] for part in self.peak}

    async def _look(self) -> None:
        while True:
            for part, size in resident(self._parts).items():
                self.peak[part] = max(self.peak[part], size)
            await asyncio.sleep(self.INTERVAL)
