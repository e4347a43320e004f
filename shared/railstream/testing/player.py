"""Play one answer as an SSE stream: each delta at its time, in one write, until the end, a fault, or nobody listens.

Delta ``i`` is due at ``first + i / rate``, so a late wake does not slow the stream. It runs on loop callbacks, not
on a task's awaits: that halves what a token costs, and the server must not show in a benchmark.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import msgspec

from railstream.testing.call import Call
from railstream.testing.http import Response
from railstream.testing.ledger import Ledger, Outcome

BURST: Final = 32
"""Deltas in a row before others have their turn."""
PAUSE: Final = 0.005
"""Seconds before a RST and between the halves of a split event, so that TCP does not join what must be apart."""
HEADERS: Final = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}


class Player:
    """The playing of one call. ``held`` is the set that it stands in while it waits for a release."""

    def __init__(self, response: Response, call: Call, ledger: Ledger, held: set[Any]) -> None:
        self._response, self._call, self._ledger, self._held = response, call, ledger, held
        self._deltas, self._script, self._entry = call.answer.deltas, call.script, call.entry
        self._fault = call.fault
        self._fault_at = min(call.script.at, len(self._deltas))
        self._hold = call.script.hold
        self._gap = 1 / call.script.rate if call.script.rate else 0.0
        self._frames = call.wire.frames(call)
        self._named = self._frames.named
        self._next = 0
        self._events = 0
        self._rest = b""
        self._timer: asyncio.Handle | None = None
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._first = 0.0

    async def play(self) -> None:
        """Returns when the last byte is written, or raises ``CancelledError`` when the client has left."""
        self._response.on_close, self._response.on_drain = self._left, self._resume
        self._response.start(200, HEADERS | self._call.headers)
        self._entry.status = 200
        self._first = self._loop.time() + self._script.delay_first
        self._tick()
        await self._over

    def release(self) -> None:
        """Go on after a hold; what was held is late by as much, not sent in a burst."""
        self._held.discard(self)
        self._first = max(self._first, self._loop.time() - self._next * self._gap)
        self._resume()

    def _resume(self) -> None:
        if self._timer is None and self not in self._held:
            self._tick()

    def _tick(self) -> None:
        self._timer = None
        for _ in range(BURST):
            if self._over.done() or self._response.blocked:
                return
            if self._rest:
                self._write_rest()
            if self._interrupted():
                return
            due = self._first + self._next * self._gap
            if due > self._loop.time() and self._next < len(self._deltas):
                self._timer = self._loop.call_at(due, self._tick)
                return
            if self._next == len(self._deltas):
                self._finish()
                return
            self._play_next()
            if self._rest:
                self._timer = self._loop.call_later(PAUSE, self._tick)
                return
        self._timer = self._loop.call_soon(self._tick)

    def _play_next(self) -> None:
        delta = self._deltas[self._next]
        if self._next == 0:
            self._open()
        self._next += 1
        self._entry.tokens += 1
        encoded = delta.encode(stamped=self._script.stamp)
        *before, last = self._frames.delta(delta, encoded, self._next) or (b"",)
        for payload in before:
            self._send(payload)
        if last:
            self._send(last, whole=False)
        self._ledger.changed()

    def _open(self) -> None:
        self._entry.first_token = time.time()
        for payload in self._frames.opening():
            self._send(payload)

    def _finish(self) -> None:
        if not self._deltas:
            self._open()
        if self._call.sends_usage:
            self._entry.usage = self._call.usage(self._next)
        for payload in self._frames.ending(self._next, signal=self._fault not in ("no_done", "open_end")):
            self._send(payload)
        if self._fault == "open_end":
            return  # until the client leaves
        self._response.end()
        self._close("fault" if self._fault in ("no_done", "bad_json") else "finished")

    def _interrupted(self) -> bool:
        """Meet a hold or the fault when it is time; whether the playing stops here, at least for now."""
        if self._next == self._hold:
            self._hold = None
            self._held.add(self)
            self._ledger.changed()
            return True
        if self._next != self._fault_at:
            return False
        if self._fault == "error_during":
            self._send_error("the testing upstream fails here, as it was told to")
        elif self._fault == "reset":
            self._timer = self._loop.call_later(PAUSE, self._reset)
            return True
        elif self._fault == "bad_json":
            self._fault_at = -1
            self._send(b'{"id":"' + self._call.id.encode() + b'","choices":[{"index":0,"del')
            return False
        elif self._fault == "hang":
            return True
        elif self._fault != "early_end":
            return False
        self._response.end()
        self._close("fault")
        return True

    def _send_error(self, message: str) -> None:
        match self._script.error_form:
            case "envelope":
                given = self._script.error
                said = self._call.wire.error(message, self._script.status) if given is None else {"error": given}
                self._send(msgspec.json.encode(said))
            case "object":
                self._send(msgspec.json.encode({"object": "error", "message": message, "code": self._script.status}))
            case "event":
                self._write(b"event: ", b"error\ndata: " + msgspec.json.encode({"message": message}), whole=True)
            case "field":
                self._write(b"error: ", msgspec.json.encode({"message": message}), whole=True)
            case "detail":
                self._send(msgspec.json.encode({"detail": message}))

    def _send(self, payload: bytes, *, whole: bool = True) -> None:
        """One SSE event in one write, but for the faults of framing."""
        if self._named and payload[:9] == b'{"type":"':
            payload = b"%b\ndata: %b" % (payload[9 : payload.index(b'"', 9)], payload)
            return self._write(b"event: ", payload, whole=whole)
        self._write(b"data: ", payload, whole=whole)

    def _write(self, field: bytes, payload: bytes, *, whole: bool) -> None:
        if self._fault == "crlf":
            event = b"%b%b\r\n\r\n" % (field, payload.replace(b"\n", b"\r\n"))
        elif self._fault == "cr":
            event = b"%b%b\r\r" % (field, payload.replace(b"\n", b"\r"))
        elif self._fault == "bom" and not self._events:
            self._events += 1
            event = b"\xef\xbb\xbf%b%b\n\n" % (field, payload)
        elif self._fault == "comments":
            event = b": a comment\n\n: one more\nretry: 3000\nx-unknown: 1\n%b:%b\n\n" % (field[:-2], payload)
        elif self._fault == "ids":
            self._events += 1
            event = b": a comment\n\nid: %d\n%b%b\n\n" % (self._events, field, payload)
        else:
            event = b"%b%b\n\n" % (field, payload)
        if self._fault == "split_utf8" and not whole:
            cut = split_point(event)
            event, self._rest = event[:cut], event[cut:]
        self._response.write(event)

    def _write_rest(self) -> None:
        rest, self._rest = self._rest, b""
        self._response.write(rest)

    def _reset(self) -> None:
        self._close("fault")
        self._response.reset()

    def _left(self) -> None:
        self._close("closed_by_client")

    def _close(self, outcome: Outcome) -> None:
        self._ledger.close(self._entry, outcome)
        self._held.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if not self._over.done():
            self._over.set_result(None)


def split_point(event: bytes) -> int:
    """Inside the first multi-byte character, else in the middle."""
    return next((place for place, byte in enumerate(event) if 0x80 <= byte < 0xC0), len(event) // 2)
