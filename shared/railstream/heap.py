"""Garbage collection that does not stop the streams.

A full collection looks at every object while every stream waits: some 100,000 that a process makes at its start and
keeps (modules, schemas, rails), and 150 or so of each open request. Requests leave nothing behind that only a
collection frees, see ``tests/contract/test_no_garbage.py``; what else may, an application's own action above all, can
wait for a minute.
"""

from __future__ import annotations

import asyncio
import gc
from typing import Final

EVERY: Final = 60.0
"""Seconds between full collections."""
NEVER: Final = 1_000_000_000


async def collect_rarely() -> None:
    """Await it once in a process that serves, when all that stays is made."""
    gc.collect()
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, NEVER)
    asyncio.get_running_loop().call_later(EVERY, _collect)


def _collect() -> None:
    gc.collect()
    asyncio.get_running_loop().call_later(EVERY, _collect)
