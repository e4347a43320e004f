"""The writing end of one attempt's stream: it chooses the ids, and the ids are the fence.

Every append of an attempt carries ``<attempt>-<seq>``. Once a later attempt has written, Redis refuses ours: the
stream is then *fenced*, and nothing more is sent. What was sent is kept until the attempt ends, so that a Redis
that comes back without its last second is given the same entries under the same ids.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from railstream import keys
from railstream.ids import START, EventId
from railstream.link import pack

HISTORY = 2048
"""Appends kept for a Redis that lost its tail: far above what an AOF or a replica lags behind."""


class Batch(Protocol):
    """Where packed commands go: the process's publisher."""

    def send(self, stream: FencedStream, append: Append) -> None: ...


class Append:
    """One append, kept until the attempt ends. A chunk keeps its data only; anything else its packed command."""

    __slots__ = ("choice", "command", "delta", "done", "seq")

    def __init__(self, seq: int, delta: bytes = b"", choice: bytes = b"", command: bytes = b"") -> None:
        self.seq = seq
        self.delta = delta
        self.choice = choice
        self.command = command
        self.done: asyncio.Future[bool] | None = None

    def settle(self, accepted: bool) -> None:
        if self.done is not None and not self.done.done():
            self.done.set_result(accepted)


class FencedStream:
    """``sent`` and ``stored`` are sequence numbers: the last one handed over, and the last that Redis confirmed."""

    def __init__(
        self,
        request_id: str,
        attempt: int,
        batch: Batch,
        *,
        opening: tuple[bytes, bytes],
        after: EventId = START,
        on_fenced: Callable[[], None] = lambda: None,
    ) -> None:
        """``opening``: event and data of ``<attempt>-0``, which the reservation wrote; ``after``: the id before it."""
        self.request_id = request_id
        self.attempt = attempt
        self.after = after
        self.key = keys.events(request_id).encode()
        self.channel = keys.live(request_id).encode()
        self.sent = 0
        self.stored = 0
        self.fenced = False
        self._batch = batch
        self._on_fenced = on_fenced
        self._head = b"*8\r\n" + _bulk(b"XADD") + _bulk(self.key) + _bulk(b"NOMKSTREAM") + b"$"
        self._middle = b"\r\n" + _bulk(b"event") + _bulk(b"chunk") + b"$4\r\ndata\r\n$"
        self._publish = b"\r\n*3\r\n" + _bulk(b"PUBLISH") + _bulk(self.channel) + b"$"
        self.history: deque[Append] = deque((Append(0, command=self._opening(*opening)),), maxlen=HISTORY)

    def _opening(self, event: bytes, data: bytes) -> bytes:
        entry_id = b"%d-0" % self.attempt
        added = pack(b"XADD", self.key, entry_id, b"event", event, b"data", data)
        return added + pack(b"PUBLISH", self.channel, b"%b %b 0\n%b" % (entry_id, event, data))

    def chunk(self, delta: bytes, choice: bytes = b"") -> None:
        """Append one released delta. ``choice``: JSON of index and logprobs when they are not the plain ones."""
        if not self.fenced:
            self.sent += 1
            self._hand_over(Append(self.sent, delta, choice))

    def event(self, name: bytes, data: bytes) -> None:
        """Append any other event, but for the last: that one is a script."""
        if self.fenced:
            return
        self.sent += 1
        entry_id = b"%d-%d" % (self.attempt, self.sent)
        added = pack(b"XADD", self.key, b"NOMKSTREAM", entry_id, b"event", name, b"data", data)
        told = pack(b"PUBLISH", self.channel, b"%b %b 0\n%b" % (entry_id, name, data))
        self._hand_over(Append(self.sent, command=added + told))

    def script(self, script: str, keys_: tuple[bytes, ...], *args: bytes) -> asyncio.Future[bool]:
        """Append through a script that gets ``channel, id, *args``; true when the fence let it pass."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if self.fenced:
            done.set_result(False)
            return done
        self.sent += 1
        entry_id = b"%d-%d" % (self.attempt, self.sent)
        count = b"%d" % len(keys_)
        append = Append(self.sent, command=pack(b"EVAL", script.encode(), count, *keys_, self.channel, entry_id, *args))
        append.done = done
        self._hand_over(append)
        return done

    def _hand_over(self, append: Append) -> None:
        self.history.append(append)
        self._batch.send(self, append)

    def pack(self, append: Append) -> bytes:
        """The bytes of an append: for a chunk, XADD and PUBLISH of the same entry."""
        if append.command:
            return append.command
        entry_id = b"%d-%d" % (self.attempt, append.seq)
        delta, choice = append.delta, append.choice
        if choice:
            fields = (b"event", b"chunk", b"data", delta, b"choice", choice)
            live = b"%b chunk %d\n%b%b" % (entry_id, len(choice), choice, delta)
            return pack(b"XADD", self.key, b"NOMKSTREAM", entry_id, *fields) + pack(b"PUBLISH", self.channel, live)
        return b"%b%d\r\n%b%b%d\r\n%b%b%d\r\n%b chunk 0\n%b\r\n" % (
            self._head,
            len(entry_id),
            entry_id,
            self._middle,
            len(delta),
            delta,
            self._publish,
            len(entry_id) + 9 + len(delta),
            entry_id,
            delta,
        )

    def confirm(self, append: Append) -> None:
        """Redis has stored it."""
        if append.seq > self.stored:
            self.stored = append.seq
        append.settle(True)

    def refuse(self, append: Append) -> None:
        """Redis refused its id: it is there already (sent twice), or a later attempt has written."""
        if append.seq <= self.stored:
            self.confirm(append)
        else:
            self.fence()

    def fence(self) -> None:
        """Nothing of this attempt is accepted any more."""
        if self.fenced:
            return
        self.fenced = True
        for append in self.history:
            append.settle(False)
        self._on_fenced()

    def missing_after(self, last: EventId | None) -> list[Append] | None:
        """What Redis lacks when its last entry is ``last``; ``None`` when we cannot give back what is missing.

        Then what is kept does not reach back so far, or an attempt that we had superseded has gone on without us.
        """
        if last is not None and last.attempt < self.attempt and last != self.after:
            return None
        stored = -1 if last is None or last.attempt < self.attempt else last.seq
        missing = [append for append in self.history if append.seq > stored]
        if missing and missing[0].seq != stored + 1:
            return None
        for append in self.history:
            if append.seq <= stored:
                self.confirm(append)
        return missing


def _bulk(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)
