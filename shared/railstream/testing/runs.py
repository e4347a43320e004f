"""Runs: responses that are generated whether somebody reads them or not, each kept with all its events.

A connection reads a run from any event on, as often as it likes, until the run is too old for that. The faults of a
connection (``reset``, ``hang``, ``early_end``, before the delta ``at``) break what reads; the run goes on. A run that
is not in the background ends with its connection.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import msgspec

from railstream.testing.call import Call
from railstream.testing.frames import error
from railstream.testing.http import Request, Response
from railstream.testing.ledger import Ledger, Outcome
from railstream.testing.player import HEADERS, PAUSE
from railstream.testing.responses import ResponseEvents

MOST_RUNS: Final = 20_000
OF_CONNECTION: Final = frozenset({"reset", "hang", "early_end"})
ENDED: Final = frozenset({"completed", "incomplete", "failed", "cancelled"})


class Run:
    """One response. ``held`` is the set that it stands in while it waits for a release."""

    def __init__(self, call: Call, ledger: Ledger, held: set[Any]) -> None:
        self.id = call.run_id
        self.began = time.monotonic()
        self.call = call
        self.background = bool(call.body.get("background"))
        self.events: list[bytes] = []
        self.before: list[int] = []
        """How many deltas stand before each event."""
        self._state = ResponseEvents(call, self.id, background=self.background)
        self._ledger, self._held = ledger, held
        self._changed = asyncio.Event()
        self._released = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._generate())

    @property
    def response(self) -> dict[str, Any]:
        return self._state.response

    @property
    def over(self) -> bool:
        return self.response["status"] in ENDED

    def release(self) -> None:
        """Go on after a hold."""
        self._held.discard(self)
        self._released.set()

    def stop(self, outcome: Outcome) -> None:
        """End it before its end: nothing more is generated."""
        if self.over:
            return
        self._task.cancel()
        self._held.discard(self)
        self._add([self._state.end("cancelled", self.call.entry.tokens)], self.call.entry.tokens)
        self._ledger.close(self.call.entry, outcome)

    async def changed(self) -> None:
        """Wait for the next events."""
        await self._changed.wait()

    def _add(self, events: list[bytes], before: int = 0) -> None:
        self.events += events
        self.before += [before] * len(events)
        self._changed.set()
        self._changed = asyncio.Event()

    async def _generate(self) -> None:
        script, entry = self.call.script, self.call.entry
        self._add(self._state.opening())
        loop = asyncio.get_running_loop()
        due = loop.time() + script.delay_first
        for number, delta in enumerate(self.call.answer.deltas):
            if number == script.hold:
                await self._hold()
                due = max(due, loop.time())
            if self.call.fault == "error_during" and number == script.at:
                return self._fail(number)
            await asyncio.sleep(max(0.0, due - loop.time()))
            due += 1 / script.rate if script.rate else 0
            entry.tokens += 1
            entry.first_token = entry.first_token or time.time()
            self._add(self._state.delta(delta, delta.encode(stamped=script.stamp)), number)
            self._ledger.changed()
        self._end()

    def _end(self) -> None:
        written = len(self.call.answer.deltas)
        if self.call.sends_usage:
            self.call.entry.usage = self.call.usage(written)
        self._add(self._state.ending(written), written)
        self._ledger.close(self.call.entry, "finished")

    async def _hold(self) -> None:
        self._held.add(self)
        self._ledger.changed()
        await self._released.wait()

    def _fail(self, written: int) -> None:
        failure = {"code": "server_error", "message": "the testing upstream fails here, as it was told to"}
        self._add([self._state.end("failed", written, failure)], written)
        self._ledger.close(self.call.entry, "fault")


class Runs:
    """All runs of one server, and the routes below ``/responses``."""

    def __init__(self, ledger: Ledger, held: set[Any]) -> None:
        self._ledger, self._held = ledger, held
        self._runs: dict[str, Run] = {}

    def stop(self) -> None:
        for run in self._runs.values():
            run.stop("stopped")

    async def begin(self, response: Response, call: Call) -> None:
        """``POST /responses``."""
        run = self._runs[call.run_id] = Run(call, self._ledger, self._held)
        while len(self._runs) > MOST_RUNS:
            self._runs.pop(next(iter(self._runs))).stop("stopped")
        response.on_close = None if run.background else lambda: run.stop("closed_by_client")
        if call.entry.stream:
            return await self._attach(run, response, -1)
        while not (run.over or run.background):
            await run.changed()
        call.entry.status = 200
        response.json(200, run.response, call.headers)

    async def handle(self, request: Request, response: Response, path: str) -> None:
        """``GET /responses/{id}`` and ``POST /responses/{id}/cancel``."""
        _, _, id, *rest = path.split("/")
        run = self._runs.get(id)
        if run is None:
            response.json(404, error(f"Response with id '{id}' not found.", 404))
        elif request.method == "GET" and not rest:
            await self._retrieve(run, request, response)
        elif request.method == "POST" and rest == ["cancel"]:
            self._cancel(run, response)
        else:
            response.json(404, error(f"no route for {request.method} {request.path}", 404))

    async def _retrieve(self, run: Run, request: Request, response: Response) -> None:
        if request.query.get("stream") != "true":
            return response.json(200, run.response)
        limit = run.call.script.attach_for
        if not run.background or not run.call.entry.stream:
            refusal = "This response cannot be streamed: it was not created with background and stream."
        elif time.monotonic() - run.began > limit:
            refusal = f"This response can no longer be streamed because it is more than {limit / 60:g} minutes old."
        else:
            run.call.entry.attached += 1
            self._ledger.changed()
            return await self._attach(run, response, int(request.query.get("starting_after", "-1")))
        response.json(400, error(refusal, 400))

    def _cancel(self, run: Run, response: Response) -> None:
        if not run.background:
            return response.json(400, error("Cannot cancel a synchronous response.", 400))
        run.stop("cancelled")
        response.json(200, run.response)

    async def _attach(self, run: Run, response: Response, after: int) -> None:
        """Write the events behind one number until the end of the run, or until the connection's fault."""
        script, position = run.call.script, after + 1
        fault = run.call.fault if run.call.fault in OF_CONNECTION else None
        fault_at = min(script.at, len(run.call.answer.deltas))
        response.start(200, HEADERS | run.call.headers)
        run.call.entry.status = run.call.entry.status or 200
        while True:
            while position < len(run.events):
                if position > after + 1 and fault is not None and _meets(run, position, fault_at):
                    return await self._break(response, fault)
                response.write(_framed(run.events[position]))
                position += 1
            if run.over:
                return response.end()
            await run.changed()

    @staticmethod
    async def _break(response: Response, fault: str) -> None:
        if fault == "hang":
            await asyncio.get_running_loop().create_future()
        if fault == "early_end":
            return response.end()
        await asyncio.sleep(PAUSE)
        response.reset()


def _meets(run: Run, position: int, fault_at: int) -> bool:
    """Whether the first event of the delta of that number, or of the end, stands there: behind the two that open."""
    begins = position == 2 or (position > 2 and run.before[position - 1] != fault_at)
    return begins and run.before[position] == fault_at


def _framed(event: bytes) -> bytes:
    name = msgspec.json.decode(event)["type"].encode()
    return b"event: %b\ndata: %b\n\n" % (name, event)
