"""One pub/sub connection for all readers of a gateway: a channel per request, dispatched to whoever reads it.

The channel is speed, the stream is the truth: whatever may have been missed (a reconnect) is told to the readers,
who then read the stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any, Final, Protocol

from railstream import keys, live_frame
from railstream.events import Event
from railstream.topology.link import Link, keep_link, pack
from railstream.topology.recovery import Recovery
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

CHANNELS_PER_COMMAND: Final = 500


class Listener(Protocol):
    """A reader of one request, as the hub sees it. No method may block or raise."""

    def passes(self, payload: bytes) -> bool:
        """Take what was published as it is, which is quickest. False, and nothing is taken: `deliver` it."""

    def deliver(self, event: Event) -> None:
        """The next event of the channel."""

    def resync(self) -> None:
        """Events may have been missed."""


class Subscription:
    """One channel and its readers; ``confirmed`` is done once Redis delivers on it."""

    __slots__ = ("channel", "confirmed", "listeners")

    def __init__(self, channel: bytes) -> None:
        self.channel = channel
        self.listeners: list[Listener] = []
        self.confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Hub:
    """`run` it in a task of its own."""

    def __init__(self, url: str, *, timeout: float, name: str) -> None:
        self._url = url
        self._timeout = timeout
        self._name = name
        self._link: Link | None = None
        self._channels: dict[bytes, Subscription] = {}
        self._sent: dict[bytes, deque[Subscription]] = {}
        self._heard = 0.0

    def __len__(self) -> int:
        return len(self._channels)

    @property
    def connected(self) -> bool:
        return self._link is not None

    async def subscribe(self, request_id: str, listener: Listener) -> None:
        """Returns once nothing that is published from now on can be missed.

        Raises:
            TimeoutError: Redis does not confirm in time; the listener is not subscribed.
        """
        channel = keys.live(request_id).encode()
        subscription = self._channels.get(channel)
        if subscription is None:
            subscription = self._channels[channel] = Subscription(channel)
            self._send_subscribe((subscription,))
        subscription.listeners.append(listener)
        if subscription.confirmed.done():
            return
        try:
            async with asyncio.timeout(self._timeout):
                await asyncio.shield(subscription.confirmed)
        except BaseException:
            self.unsubscribe(request_id, listener)
            raise

    def unsubscribe(self, request_id: str, listener: Listener) -> None:
        """Idempotent."""
        channel = keys.live(request_id).encode()
        subscription = self._channels.get(channel)
        if subscription is None or listener not in subscription.listeners:
            return
        subscription.listeners.remove(listener)
        if not subscription.listeners:
            del self._channels[channel]
            self._write(pack(b"UNSUBSCRIBE", channel))

    def _send_subscribe(self, subscriptions: tuple[Subscription, ...]) -> None:
        if self._link is None:
            return  # the next connection subscribes to all of them
        for subscription in subscriptions:
            self._sent.setdefault(subscription.channel, deque()).append(subscription)
        self._write(pack(b"SUBSCRIBE", *(subscription.channel for subscription in subscriptions)))

    def _write(self, command: bytes) -> None:
        # A connection that is closing is noticed by the reader, which starts over.
        if self._link is not None:
            with contextlib.suppress(RedisError):
                self._link.write(command)

    async def run(self) -> None:
        """Keep a connection until cancelled."""
        await keep_link(
            partial(Link.open, self._url, self._timeout, self._name),
            self._serve,
            self._disconnected,
            Recovery(log, "the live channel from redis"),
        )

    def _disconnected(self) -> None:
        self._link = None
        self._sent.clear()

    async def _serve(self, link: Link, recovery: Recovery) -> None:
        self._link = link
        recovery.succeeded()
        self._heard = asyncio.get_running_loop().time()
        subscriptions = iter(list(self._channels.values()))
        while some := tuple(islice(subscriptions, CHANNELS_PER_COMMAND)):
            self._send_subscribe(some)
        watch = asyncio.create_task(self._watch(link))
        try:
            await link.serve(self._dispatch)
        finally:
            watch.cancel()

    async def _watch(self, link: Link) -> None:
        """Ask a silent connection for a sign of life, and close it when there is none."""
        while True:
            await asyncio.sleep(self._timeout / 2)
            silent = asyncio.get_running_loop().time() - self._heard
            if silent > 2 * self._timeout:
                return await link.close()
            if silent > self._timeout / 2:
                self._write(pack(b"PING"))

    def _dispatch(self, replies: Iterator[Any]) -> None:
        self._heard = asyncio.get_running_loop().time()
        channels = self._channels
        for reply in replies:
            if not isinstance(reply, list):
                self._other(reply)
            elif reply[0] == b"message":
                subscription = channels.get(reply[1])
                if subscription is not None:
                    self._message(subscription, reply[2])
            elif reply[0] == b"subscribe":
                self._confirm(reply[1])

    @staticmethod
    def _message(subscription: Subscription, payload: bytes) -> None:
        waiting = [listener for listener in subscription.listeners if not listener.passes(payload)]
        if not waiting:
            return
        try:
            event = live_frame.decode(payload)
        except ValueError:
            log.error("not an event on %s: %r", subscription.channel.decode(), payload[:200])
            for listener in waiting:
                listener.resync()
            return
        for listener in waiting:
            listener.deliver(event)

    def _confirm(self, channel: bytes) -> None:
        subscription = self._sent[channel].popleft()
        if not self._sent[channel]:
            del self._sent[channel]
        if not subscription.confirmed.done():
            return subscription.confirmed.set_result(None)
        for listener in subscription.listeners:
            listener.resync()

    @staticmethod
    def _other(reply: Any) -> None:
        if isinstance(reply, Exception):
            raise RedisError(str(reply))
