"""An answer without a stream, kept alive while it is generated: its headers early, then blanks, then its JSON.

A proxy that closes a silent connection would cut a long answer, and the cut would cancel it. White space before a JSON
value means nothing (RFC 8259, section 2). The price is the status: it is 200 once the first blank is out, and an error
then stands in the body's envelope alone. So it is a setting, off by default.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from railstream.errors import RailstreamError
from railstream.events import Started
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from railstream_gateway.accept.admission import unavailable
from railstream_gateway.stream.collecting import collect
from railstream_gateway.stream.reading import Reading
from railstream_gateway.views.errors import error_answer
from railstream_gateway.views.openai.completion import Fold

BLANK: Final = b"\n"
CLIENT_LEFT: Final = 499
"""nginx's status of a request whose client has closed the connection; nobody reads it."""


async def plain_response(
    request: Request, reading: Reading, shared: Started, respond: Callable[[Fold], Response], every: float
) -> Response:
    """The answer once the stream has ended. ``every``: seconds between blanks; 0 for none.

    Raises:
        RailstreamError: the stream cannot be read to its end, and nothing has been sent yet.
    """

    async def answer() -> Response:
        fold = await collect(reading, request.receive, shared)
        return Response(status_code=CLIENT_LEFT) if fold is None else respond(fold)

    if not every:
        return await answer()
    task = asyncio.create_task(answer(), name="plain answer")
    try:
        await asyncio.wait({task}, timeout=every)
        return task.result() if task.done() else BlankedResponse(task, every, request.state.headers)
    except asyncio.CancelledError:
        task.cancel()
        raise


class BlankedResponse(Response):
    def __init__(self, answer: asyncio.Task[Response], every: float, headers: Mapping[str, str]) -> None:
        """``headers`` name the request: its answer can be fetched after a cut."""
        super().__init__(None, 200, dict(headers), media_type="application/json")
        del self.headers["content-length"]
        self._answer = answer
        self._every = every

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            while not self._answer.done():
                await send(_part(BLANK, more=True))
                await asyncio.wait({self._answer}, timeout=self._every)
            await send(_part(await _body(self._answer), more=False))
        except OSError:
            await asyncio.wait({self._answer}, timeout=self._every)  # it has noticed, too, that the client left
        finally:
            self._answer.cancel()


def _part(body: bytes, *, more: bool) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def _body(answer: Awaitable[Response]) -> bytes:
    try:
        return bytes((await answer).body)
    except RailstreamError as error:
        return bytes(error_answer(error).body)
    except RedisError:
        return bytes(error_answer(unavailable()).body)
