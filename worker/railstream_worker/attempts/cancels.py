"""Hear that a request is to be cancelled, wherever it runs: a channel for speed, the flag in its hash for certainty."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial

from railstream import keys
from railstream.topology.link import Link, keep_link, pack
from railstream.topology.recovery import FAILURES, Recovery
from redis.asyncio import Redis

log = logging.getLogger(__name__)

LOOK_EVERY = 2.0
"""Seconds between looks at the flags of running requests, for a message that was lost with its connection."""


class Cancels:
    """``running`` gives the request ids of this worker; ``cancel`` is called with the id and the reason."""

    def __init__(
        self,
        redis: Redis,
        url: str,
        *,
        timeout: float,
        name: str,
        running: Callable[[], Iterable[str]],
        cancel: Callable[[str, str], None],
    ) -> None:
        self._redis = redis
        self._url = url
        self._timeout = timeout
        self._name = name
        self._running = running
        self._cancel = cancel

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen_always())
            tasks.create_task(self._look_often())

    async def _listen_always(self) -> None:
        await keep_link(
            partial(Link.open, self._url, self._timeout, self._name),
            self._listen,
            lambda: None,
            Recovery(log, "the channel of cancels, whose flags are looked at instead,"),
        )

    async def _listen(self, link: Link, recovery: Recovery) -> None:
        link.write(pack(b"SUBSCRIBE", keys.CANCEL_CHANNEL.encode()))
        while True:
            replies = await link.read()
            recovery.succeeded()
            for reply in replies:
                if isinstance(reply, list) and reply[0] == b"message":
                    request_id, _, reason = reply[2].decode().partition(" ")
                    self._cancel(request_id, reason or "request")

    async def _look_often(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                await self.look()
            except FAILURES as error:
                log.debug("cancel flags cannot be read: %s", error)

    async def look(self) -> None:
        """Read the flag of every running request, in one round trip."""
        running = list(self._running())
        if not running:
            return
        pipeline = self._redis.pipeline(transaction=False)
        for request_id in running:
            pipeline.hget(keys.request(request_id), "cancel")
        for request_id, reason in zip(running, await pipeline.execute(), strict=True):
            if reason:
                self._cancel(request_id, reason.decode())
