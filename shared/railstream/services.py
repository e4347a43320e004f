"""Background services of a process, which run until they are cancelled: one that ends by itself is begun again.

Without its services a process goes on half dead: it takes jobs whose claims it does not renew, or streams that it never
reads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

log = logging.getLogger(__name__)

PAUSE: Final = 0.5
"""Seconds before a service is begun again."""


def start(name: str, service: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
    """A task that runs the service until the task is cancelled."""
    return asyncio.create_task(keep(name, service), name=name)


async def keep(name: str, service: Callable[[], Awaitable[None]]) -> None:
    """Run the service until the task that runs this is cancelled."""
    task = asyncio.current_task()
    assert task is not None
    while True:
        try:
            await service()
            log.error("%s ended, and is begun again", name)
        except asyncio.CancelledError:
            if task.cancelling():
                raise
            log.exception("%s was cancelled by something inside it, and is begun again", name)
        except Exception:
            log.exception("%s failed, and is begun again", name)
        await asyncio.sleep(PAUSE)
