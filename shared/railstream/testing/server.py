"""The upstream: a server that speaks as OpenAI, Anthropic and Google do, for tests, demos and benchmarks.

It generates nothing: a script says what is answered, how fast, and what goes wrong. Routes, with or without ``/v1``
or ``/v1beta``; those of a Gemini model are ``/models/<name>:generateContent`` and ``:streamGenerateContent?alt=sse``:

===========================  ============================================================================
``POST /chat/completions``   stream and non-stream; below ``/openai`` as Google's compatible endpoint does it
``POST /messages``           Anthropic's Messages, streams only
``POST /responses``          OpenAI's Responses; below it ``GET /<id>`` and ``POST /<id>/cancel``
``POST /models/…``           Google's own, stream and non-stream
``GET /models``              the models that have a script of their own, and ``testing``
``GET /ledger``              calls, filtered by ``model``, ``id``, ``request`` and ``outcome``, and totals
``GET /ledger/wait``         the same, once ``open``, ``calls``, ``ended``, ``tokens`` hold, or 408 after ``timeout``
``DELETE /ledger``           forget the calls that have ended
``POST /release``            let held answers go on
``GET /``                    what this is
===========================  ============================================================================
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import msgspec

from railstream.testing import frames
from railstream.testing.answer import compose
from railstream.testing.call import Call
from railstream.testing.http import Connection, Request, Response
from railstream.testing.ledger import Ledger
from railstream.testing.player import PAUSE, Player, split_point
from railstream.testing.responses import ResponsesWire
from railstream.testing.runs import Run, Runs
from railstream.testing.script import Script, choose
from railstream.testing.wire import Wire
from railstream.testing.wires import wire_of

ABOUT = "This is Railstream's testing upstream: it answers from a script. No model is behind it."
FILTERS = ("model", "id", "request", "outcome")
COUNTS = ("open", "calls", "ended", "tokens")
VERSION = re.compile(r"^/v1(beta|alpha)?(?=/|$)")


class Upstream:
    """``script`` answers every model that ``models`` does not name. ``async with`` starts and stops it."""

    def __init__(
        self,
        script: Script | None = None,
        *,
        models: Mapping[str, Script] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self.script = script or Script()
        self.models = dict(models or {})
        self.ledger = ledger or Ledger()
        self.host = host
        self.port = port
        self._api_key = api_key
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._held: set[Player | Run] = set()
        self._runs = Runs(self.ledger, self._held)
        self._broken: Counter[tuple[str, str]] = Counter()

    @property
    def url(self) -> str:
        """What a client takes as its ``base_url``."""
        return f"http://{self.host}:{self.port}/v1"

    @property
    def google_url(self) -> str:
        """The same for a client of Google's; below it, ``/openai`` is the compatible endpoint."""
        return f"http://{self.host}:{self.port}/v1beta"

    async def __aenter__(self) -> Upstream:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self._handle, self._connections), self.host, self.port, backlog=2048
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Refuse new calls and cut the running ones; their outcome is ``stopped``."""
        if self._server is None:
            return
        self._server.close()
        self._runs.stop()
        for entry in self.ledger.calls(outcome="open"):
            self.ledger.close(entry, "stopped")
        while self._connections:
            for connection in tuple(self._connections):
                connection.abort()
            await asyncio.sleep(0)
        await self._server.wait_closed()
        self._server = None

    @property
    def held(self) -> int:
        """How many answers wait for a release; `Ledger.wait` notices when it changes."""
        return len(self._held)

    def release(self) -> int:
        """Let every held answer go on; how many there were."""
        held = tuple(self._held)
        for player in held:
            player.release()
        return len(held)

    async def _handle(self, request: Request, response: Response) -> None:
        try:
            await self._route(request, response)
        except ValueError as error:
            if response.started:
                raise
            response.json(400, frames.error(str(error), 400))

    async def _route(self, request: Request, response: Response) -> None:
        path = VERSION.sub("", request.path).rstrip("/") or "/"
        if request.method == "POST" and (wire := wire_of(path)) is not None:
            return await self._complete(request, response, wire)
        if path.startswith("/responses/"):
            if self._api_key is not None and not ResponsesWire().authorised(request.headers, self._api_key):
                return response.json(*ResponsesWire().wrong_key())
            return await self._runs.handle(request, response, path)
        match request.method, path:
            case "GET", "/models":
                names = ["testing", *self.models]
                data = [{"id": name, "object": "model", "created": 0, "owned_by": "railstream"} for name in names]
                response.json(200, {"object": "list", "data": data})
            case "GET", "/ledger":
                response.json(200, self._report(request))
            case "GET", "/ledger/wait":
                await self._wait(request, response)
            case "DELETE", "/ledger":
                self.ledger.clear()
                response.json(200, {"cleared": True})
            case "POST", "/release":
                response.json(200, {"released": self.release()})
            case "GET", "/":
                response.json(200, {"about": ABOUT, "script": self.script, "models": self.models})
            case _:
                response.json(404, frames.error(f"no route for {request.method} {request.path}", 404))

    def _report(self, request: Request) -> dict[str, Any]:
        calls = self.ledger.calls(**{name: request.query[name] for name in FILTERS if name in request.query})
        totals = {
            "calls": len(calls),
            "tokens": sum(entry.tokens for entry in calls),
            "prompt_tokens": sum(entry.prompt_tokens for entry in calls),
            "outcomes": Counter(entry.outcome for entry in calls),
        }
        return {"totals": totals, "calls": calls}

    async def _wait(self, request: Request, response: Response) -> None:
        query = request.query
        wanted: dict[str, Any] = {name: int(query[name]) for name in COUNTS if name in query}
        wanted |= {name: query[name] for name in FILTERS if name in query}
        try:
            await self.ledger.wait(timeout=float(query.get("timeout", "10")), **wanted)
        except TimeoutError as error:
            response.json(408, frames.error(str(error), 408) | self._report(request))
        else:
            response.json(200, self._report(request))

    async def _complete(self, request: Request, response: Response, wire: Wire) -> None:
        if self._api_key is not None and not wire.authorised(request.headers, self._api_key):
            response.json(*wire.wrong_key())
            return
        try:
            body = wire.decode(request)
        except ValueError as error:
            response.json(400, wire.refusal(str(error), 400, None)[0])
            return
        script = choose(self.models.get(body["model"], self.script), body, request.headers)
        request_id = request.headers.get("x-request-id", "")
        if not self._breaks(script, body["model"], request_id.partition(".")[0] or str(hash(request.body))):
            script = msgspec.structs.replace(script, fault=None, hold=None)
        answer = compose(script, body)
        entry = self.ledger.open(request_id, body, answer.prompt_tokens)
        entry.continued = answer.continued
        entry.fault = script.fault
        response.on_close = lambda: self.ledger.close(entry, "closed_by_client")
        await self._answer(response, Call(body, script, answer, entry, wire))

    def _breaks(self, script: Script, model: str, request: str) -> bool:
        """Whether this call of a request still meets the script's fault and hold."""
        if script.times is None:
            return True
        self._broken[model, request] += 1
        return self._broken[model, request] <= script.times

    async def _answer(self, response: Response, call: Call) -> None:
        script, entry = call.script, call.entry
        if call.fault == "error_before":
            entry.status = script.status
            said, headers = call.wire.refusal(
                "the testing upstream refuses, as told", script.status, script.retry_after
            )
            response.json(
                script.status, said if script.error is None else {"error": script.error}, headers | call.headers
            )
            self.ledger.close(entry, "fault")
            return
        if call.fault == "slow_headers":
            await asyncio.sleep(script.seconds)
        if call.breaks_before_headers:
            await self._break(response, call)
        elif isinstance(call.wire, ResponsesWire):
            await self._runs.begin(response, call)
        elif entry.stream:
            await Player(response, call, self.ledger, self._held).play()
        else:
            await self._answer_whole(response, call)

    async def _break(self, response: Response, call: Call) -> None:
        if call.fault == "hang":
            await asyncio.get_running_loop().create_future()
        self.ledger.close(call.entry, "fault")
        response.reset()

    async def _answer_whole(self, response: Response, call: Call) -> None:
        """A non-streaming answer: after the time that its deltas would have taken."""
        script, entry, fault = call.script, call.entry, call.fault
        deltas = len(call.answer.deltas)
        await asyncio.sleep(script.delay_first + (deltas / script.rate if script.rate else 0))
        if fault in ("hang", "reset"):
            await self._break(response, call)
            return
        usage = call.usage(deltas) if call.sends_usage else None
        body = msgspec.json.encode(call.wire.whole(call, usage))
        if fault == "error_during":
            body = msgspec.json.encode(call.wire.error("the testing upstream fails, as told", script.status))
        sent = body[: len(body) // 2] if fault in ("early_end", "bad_json") else body
        entry.status = 200
        headers = {"content-type": "application/json"} | call.headers
        response.start(200, headers, len(body) if fault == "early_end" else len(sent))
        if fault == "split_utf8":
            cut = split_point(sent)
            response.write(sent[:cut])
            await asyncio.sleep(PAUSE)
            sent = sent[cut:]
        response.write(sent)
        broken = fault in ("early_end", "bad_json", "error_during")
        if not broken:
            entry.tokens, entry.usage = deltas, usage
        response.cut() if fault == "early_end" else response.end()
        self.ledger.close(entry, "fault" if broken else "finished")
