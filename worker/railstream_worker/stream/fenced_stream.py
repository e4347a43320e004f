"""The writing end of one attempt's stream: it chooses the ids, and the ids are the fence.

Every append of an attempt carries ``<attempt>-<seq>``. Once a later attempt has written, Redis refuses ours: the
stream is then *fenced*, and nothing more is sent. What was sent is kept until the attempt ends, so that a Redis
that comes back without its last second is given the same entries under the same ids.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from railstream import keys, live_frame
from railstream.ids import START, EventId
from railstream.live_frame import PLAIN
from railstream.topology.link import pack

from railstream_worker.queue.scripts import GUARD_TTL, OPEN_AGAIN
from railstream_worker.stream.appends import Append, History, Packed, Told

_PLAIN_CHUNK: Final = b"%b%d\r\n%b%b%d\r\n%b%b%d\r\n%b" + PLAIN + b"%b\r\n"
"""XADD and PUBLISH of a chunk that has only a delta, packed by hand: most of what a worker sends is this."""
_PLAIN_LENGTH: Final = len(PLAIN)


class Batch(Protocol):
    """Where packed commands go: the process's publisher."""

    def send(self, stream: FencedStream, seq: int, append: Append) -> None: ...


class FencedStream:
    """``sent`` and ``stored`` are sequence numbers: the last one handed over, and the last that Redis confirmed."""

    def __init__(
        self,
        request_id: str,
        attempt: int,
        batch: Batch,
        *,
        opening: tuple[bytes, bytes],
        record: Mapping[str, Any] | None = None,
        after: EventId = START,
        on_fenced: Callable[[], None] = lambda: None,
    ) -> None:
        """Of an attempt that is reserved.

        Args:
            opening: event and data of ``<attempt>-0``, which the reservation wrote.
            record: the fields of the request's hash, for a Redis that has lost it.
            after: the id before ``<attempt>-0``.
            on_fenced: called once, when nothing of this attempt is accepted any more.
        """
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
        self._scripts: dict[int, asyncio.Future[bool]] = {}
        """By sequence number, of those that Redis has not answered."""
        self.history = History()
        self.history.append(Packed(self._opening(*opening, record or {"status": "running"}), script=True))

    def _opening(self, event: bytes, data: bytes, record: Mapping[str, Any]) -> bytes:
        """Sent only to a Redis that has lost it: a stream that is written anew expires as the lost one would have."""
        args = (self.channel, b"%d-0" % self.attempt, event, data, b"%d" % GUARD_TTL)
        fields = [_bytes(part) for pair in record.items() for part in pair]
        request = keys.request(self.request_id).encode()
        return pack(b"EVAL", OPEN_AGAIN.encode(), b"2", self.key, request, *args, *fields)

    def chunk(self, delta: bytes, choice: bytes = b"") -> None:
        """Append one released delta. ``choice``: JSON of index and logprobs when they are not the plain ones."""
        if self.fenced:
            return
        append = Told(delta, choice) if choice else delta
        self.sent += 1
        self.history.append(append)
        self._batch.send(self, self.sent, append)

    def event(self, name: bytes, data: bytes) -> None:
        """Append any other event, but for the last: that one is a script."""
        if self.fenced:
            return
        entry_id = b"%d-%d" % (self.attempt, self.sent + 1)
        added = pack(b"XADD", self.key, b"NOMKSTREAM", entry_id, b"event", name, b"data", data)
        told = pack(b"PUBLISH", self.channel, live_frame.encode(entry_id, name, data))
        self._hand_over(Packed(added + told))

    def script(self, script: str, keys_: tuple[bytes, ...], *args: bytes) -> asyncio.Future[bool]:
        """Append through a script that gets ``channel, id, *args``; true when the fence let it pass."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if self.fenced:
            done.set_result(False)
            return done
        entry_id = b"%d-%d" % (self.attempt, self.sent + 1)
        count = b"%d" % len(keys_)
        command = pack(b"EVAL", script.encode(), count, *keys_, self.channel, entry_id, *args)
        self._scripts[self.sent + 1] = done
        self._hand_over(Packed(command, script=True))
        return done

    def _hand_over(self, append: Append) -> None:
        self.sent += 1
        self.history.append(append)
        self._batch.send(self, self.sent, append)

    def pack(self, seq: int, append: Append) -> bytes:
        """The bytes of an append: for a chunk, XADD and PUBLISH of the same entry."""
        entry_id = b"%d-%d" % (self.attempt, seq)
        if isinstance(append, bytes):
            return _PLAIN_CHUNK % (
                self._head,
                len(entry_id),
                entry_id,
                self._middle,
                len(append),
                append,
                self._publish,
                len(entry_id) + _PLAIN_LENGTH + len(append),
                entry_id,
                append,
            )
        if isinstance(append, Packed):
            return append.command
        delta, choice = append
        fields = (b"event", b"chunk", b"data", delta, b"choice", choice)
        live = live_frame.encode(entry_id, b"chunk", delta, choice)
        return pack(b"XADD", self.key, b"NOMKSTREAM", entry_id, *fields) + pack(b"PUBLISH", self.channel, live)

    def confirm(self, seq: int) -> None:
        """Redis has stored it."""
        if seq > self.stored:
            self.stored = seq
        if self._scripts:
            _settle(self._scripts.pop(seq, None), True)

    def refuse(self, seq: int) -> None:
        """Redis refused its id: it is there already (sent twice), or a later attempt has written."""
        if seq <= self.stored:
            self.confirm(seq)
        else:
            self.fence()

    def fence(self) -> None:
        """Nothing of this attempt is accepted any more."""
        if self.fenced:
            return
        self.fenced = True
        for done in self._scripts.values():
            _settle(done, False)
        self._scripts.clear()
        self._on_fenced()

    def missing_after(self, last: EventId | None) -> list[tuple[int, Append]] | None:
        """What Redis lacks when its last entry is ``last``; ``None`` when we cannot give back what is missing.

        Then what is kept does not reach back so far, or an attempt that we had superseded has gone on without us.
        """
        if last is not None and last.attempt < self.attempt and last != self.after:
            return None
        stored = -1 if last is None or last.attempt < self.attempt else last.seq
        if stored + 1 < self.history.first:
            return None
        for seq in [seq for seq in self._scripts if seq <= stored]:
            self.confirm(seq)
        self.stored = max(self.stored, min(stored, self.sent))
        return self.history.after(stored)


def _settle(done: asyncio.Future[bool] | None, accepted: bool) -> None:
    if done is not None and not done.done():
        done.set_result(accepted)


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _bulk(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)
