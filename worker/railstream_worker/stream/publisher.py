"""All appends of one process, over one raw connection, in batches.

A batch is flushed at once when the connection has been idle, and every few milliseconds under load. It is one
transaction: a Redis that may not write (a replica, no memory, a full disk) would else still publish what it refuses to
store. Nothing is lost with the connection: each open stream keeps what it sent, and a new connection starts by asking
Redis for each stream's last id and sending what follows it. An append is refused, not doubled, if it had arrived after
all.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import hiredis
from railstream import keys
from railstream.ids import parse_event_id
from railstream.topology.link import Link, keep_link, pack
from railstream.topology.recovery import Recovery
from redis.exceptions import RedisError

from railstream_worker.queue.writing import OF_ALL
from railstream_worker.stream.appends import HISTORY, Append, Packed
from railstream_worker.stream.fenced_stream import FencedStream

log = logging.getLogger(__name__)

HIGH_WATER = 2 * 1024 * 1024
"""Bytes not yet confirmed, past which generations wait."""
MOST_UNCONFIRMED = HISTORY // 2
"""Appends of one stream not yet confirmed, past which it waits: what is unconfirmed must still be in its history."""
MOST_AT_ONCE = 1000
"""Appends of one transaction: after an outage there may be many, and Redis serves nobody else meanwhile."""
MULTI, EXEC = pack(b"MULTI"), pack(b"EXEC")
PROBE = pack(b"SETRANGE", keys.NEVER.encode(), b"0", b"")
"""Changes nothing, and is refused whenever an append would be."""


def concerns_all(error: hiredis.ReplyError) -> bool:
    """Whether an error says something of Redis as a whole. Any other one is about the keys of its command."""
    return any(text in str(error) for text in OF_ALL)


class Publisher:
    """Run it with `run`; `open` a stream before its first append and `close` it after its last."""

    def __init__(
        self,
        url: str,
        *,
        timeout: float,
        flush_interval: float,
        name: str,
        on_refused: Callable[[], None] = lambda: None,
    ) -> None:
        """``on_refused`` is told of each append that the fence refused."""
        self._on_refused = on_refused
        self._url = url
        self._timeout = timeout
        self._interval = flush_interval
        self._name = name
        self._link: Link | None = None
        self._open: dict[FencedStream, None] = {}
        self._outbox: list[bytes] = []
        self._expected: deque[tuple[FencedStream, int, bool]] = deque()
        """Appends without an answer: stream, sequence number, and whether PUBLISH answers as well."""
        self._unconfirmed = 0
        self._flush: asyncio.Handle | None = None
        self._flushed_at = 0.0
        self._waiting: list[asyncio.Future[None]] = []
        self._unanswered_since = 0.0
        self.connected = asyncio.Event()

    def open(self, stream: FencedStream) -> None:
        """By itself: a worker that lost a job may hold two attempts of it for a moment."""
        self._open[stream] = None

    def close(self, stream: FencedStream) -> None:
        self._open.pop(stream, None)

    async def room(self, stream: FencedStream) -> None:
        """Wait while Redis is too far behind. Called once per batch of deltas, so that memory stays bounded."""
        while not stream.fenced and not self.has_room(stream):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn

    def has_room(self, stream: FencedStream) -> bool:
        return (
            self._link is not None
            and self._unconfirmed <= HIGH_WATER
            and stream.sent - stream.stored <= MOST_UNCONFIRMED
        )

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)

    def send(self, stream: FencedStream, seq: int, append: Append) -> None:
        """Queue an append for the next flush. Without a connection it waits in its stream's history."""
        if self._link is None:
            return
        command = stream.pack(seq, append)
        self._outbox.append(command)
        self._expected.append((stream, seq, type(append) is not Packed or not append.script))
        self._unconfirmed += len(command)
        if len(self._expected) == 1:
            self._unanswered_since = asyncio.get_running_loop().time()
        if self._flush is None:
            self._schedule()

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        wait = self._flushed_at + self._interval - loop.time()
        self._flush = loop.call_soon(self._write) if wait <= 0 else loop.call_later(wait, self._write)

    def _write(self) -> None:
        self._flush = None
        if self._link is None or not self._outbox:
            return
        self._flushed_at = asyncio.get_running_loop().time()
        outbox, self._outbox = self._outbox, []
        # A connection that is closing is noticed by the reader, which starts over.
        with contextlib.suppress(RedisError):
            for start in range(0, len(outbox), MOST_AT_ONCE):
                self._link.write(b"".join((MULTI, *outbox[start : start + MOST_AT_ONCE], EXEC)))

    async def run(self) -> None:
        """Keep a connection until cancelled."""
        await keep_link(
            partial(Link.open, self._url, self._timeout, self._name),
            self._serve,
            self._disconnected,
            Recovery(log, "redis, for which tokens wait,"),
        )

    async def _serve(self, link: Link, recovery: Recovery) -> None:
        async with asyncio.timeout(self._timeout):
            await self._recover(link)
        recovery.succeeded()
        await self._read(link)

    def _disconnected(self) -> None:
        self._link = None
        self.connected.clear()
        self._outbox.clear()
        self._expected.clear()
        self._unconfirmed = 0
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None

    async def _recover(self, link: Link) -> None:
        """Ask for the last id of every open stream, and send again what Redis does not have."""
        link.write(PROBE)
        await self._replies(link, 1)
        answers: dict[FencedStream, list[Any]] = {}
        while asked := [stream for stream in self._open if stream not in answers]:
            link.write(b"".join(pack(b"XREVRANGE", stream.key, b"+", b"-", b"COUNT", b"1") for stream in asked))
            answers |= zip(asked, await self._replies(link, len(asked)), strict=True)
        self._link = link
        for stream, answer in answers.items():
            if stream in self._open:
                self._resume(stream, answer)
        self._wake()
        self.connected.set()

    @staticmethod
    async def _replies(link: Link, count: int) -> list[Any]:
        """Replies, and errors that are about one key."""
        replies: list[Any] = []
        while len(replies) < count:
            replies.extend(await link.read())
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError) and concerns_all(reply):
                raise RedisError(str(reply))
        return replies

    def _resume(self, stream: FencedStream, answer: list[Any] | hiredis.ReplyError) -> None:
        if isinstance(answer, hiredis.ReplyError):
            return self._give_up(stream, answer)
        last = parse_event_id(answer[0][0]) if answer else None
        if last is not None and last.attempt > stream.attempt:
            return stream.fence()
        missing = stream.missing_after(last)
        if missing is None:
            log.error("what redis lost of %s cannot be given back to it: giving up the job", stream.request_id)
            return stream.fence()
        for seq, append in missing:
            self.send(stream, seq, append)

    async def _read(self, link: Link) -> None:
        """Match answers to appends until the connection ends."""
        watch = asyncio.create_task(self._watch(link))
        try:
            await link.serve(self._answered)
        finally:
            watch.cancel()

    def _answered(self, replies: Iterator[Any]) -> None:
        self._unanswered_since = asyncio.get_running_loop().time()
        for reply in replies:
            if type(reply) is list:
                self._executed(reply)
            elif isinstance(reply, hiredis.ReplyError):
                raise RedisError(f"redis refuses to write: {reply}")
        if not self._expected:
            self._unconfirmed = 0
        if self._waiting:
            self._wake()

    def _executed(self, results: list[Any]) -> None:
        """What a transaction's commands answered."""
        second = False  # of a chunk's two answers XADD's has been seen: PUBLISH's is next
        for result in results:
            if second:
                second = False
                continue
            stream, seq, second = self._expected.popleft()
            if type(result) is bytes:
                stream.confirm(seq)
            else:
                self._answer(stream, seq, result)

    async def _watch(self, link: Link) -> None:
        """Close a connection whose other end has gone without a word: the reader then starts over."""
        while True:
            await asyncio.sleep(self._timeout / 4)
            silent = asyncio.get_running_loop().time() - self._unanswered_since
            if self._expected and silent > self._timeout:
                log.warning("redis has not answered for %.1f s: connecting again", silent)
                return await link.close()

    def _answer(self, stream: FencedStream, seq: int, reply: Any) -> None:
        if isinstance(reply, hiredis.ReplyError):
            if "equal or smaller" in str(reply):
                return self._refused(stream, seq)
            if concerns_all(reply):
                raise RedisError(f"redis refuses to write: {reply}")
            return self._give_up(stream, reply)
        if reply is None:
            raise RedisError(f"the stream of {stream.request_id} is gone from redis")
        if reply == 0:
            return self._refused(stream, seq)
        stream.confirm(seq)

    @staticmethod
    def _give_up(stream: FencedStream, error: hiredis.ReplyError) -> None:
        """A key of the stream is no place to write: the other streams go on, its job is delivered again or is dead."""
        log.error("the stream of %s cannot be written: %s", stream.request_id, error)
        stream.fence()

    def _refused(self, stream: FencedStream, seq: int) -> None:
        stream.refuse(seq)
        if stream.fenced:
            self._on_refused()
