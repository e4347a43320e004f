"""Clients that resume: raw SSE with ``Last-Event-ID`` at any gateway, until the stream has ended or its loss is said.

A client keeps every frame that it was given, in order, so that a judge can hold them against the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from chaos.world import CONTINUING, World
from harness.sse import Frame, Incomplete, Stream, opened
from harness.stack import MODEL
from railstream.testing import text

SILENCE = 6.0
"""Seconds without a byte, keep-alives included, after which a client takes its connection for dead."""
AGAIN = 0.2
"""Seconds before another try at a gateway that refused."""
BROKEN = (Incomplete, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, OSError)


@dataclass(slots=True)
class Question:
    """What is asked. ``seed`` and ``words`` decide the whole answer."""

    seed: str
    words: int
    rate: float
    config: str = ""
    given: dict[str, Any] = field(default_factory=dict)
    said: str = ""
    """The whole answer, where ``given`` says another one."""

    @property
    def answer(self) -> str:
        return self.said or text.text(self.seed, self.words)

    def body(self) -> dict[str, Any]:
        told = {"words": self.words, "rate": self.rate, "seed": self.seed} | self.given
        if self.config == CONTINUING:
            told["continues"] = True
        content = f"Go on. @upstream {json.dumps(told)}"
        body: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": content}], "stream": True}
        body["stream_options"] = {"include_usage": True}
        return body | ({"guardrails": {"config_id": self.config}} if self.config else {})


@dataclass
class Client:
    """One conversation with whichever gateway answers. ``frames``: since the last gap, if there was one."""

    world: World
    question: Question
    policy: str = "continue"
    cuts: list[int] = field(default_factory=list)
    """Bytes of each connection's body after which the client itself cuts it."""
    patience: float = 90.0
    may_fail: bool = False
    """Whether the upstream or a rail may end it with an error."""
    cancelled: bool = False
    """Somebody has asked for it."""
    forgotten: bool = False
    """Redis was made to forget a part of its last moments while this client was there, or just before."""
    job_may_be_lost: bool = False
    """Somebody has taken the job stream away: then an end that says so is asked again, with the same key."""
    asked_again: int = 0
    request_id: str = ""
    frames: list[Frame] = field(default_factory=list)
    before_gaps: list[list[Frame]] = field(default_factory=list)
    connections: int = 0
    comments: int = 0
    refusals: int = 0
    lost: str = ""
    """How the loss of the whole request was said, if it was."""
    ended_at: float = 0.0
    key: str = field(default_factory=lambda: uuid.uuid4().hex)
    _stream: Stream | None = None

    @property
    def received(self) -> int:
        """Frames so far, those of the open connection included."""
        return len(self.frames) + (len(self._stream.frames) if self._stream is not None else 0)

    @property
    def text(self) -> str:
        return "".join(frame.text for frame in self.frames)

    @property
    def done(self) -> bool:
        return bool(self.frames) and self.frames[-1].done

    @property
    def last_id(self) -> str | None:
        return next((frame.id for frame in reversed(self.frames) if frame.id is not None), None)

    @property
    def error(self) -> dict[str, Any] | None:
        """The error that the stream ended with."""
        for frame in reversed(self.frames):
            if frame.data is not None and not frame.done and "error" in frame.json:
                found: dict[str, Any] = frame.json["error"]
                return found
        return None

    async def run(self) -> Client:
        """To the end of the stream. ``TimeoutError`` when there is none: a client that hangs is a loss unsaid."""
        async with asyncio.timeout(self.patience):
            while not self.done and not self.lost:
                with contextlib.suppress(*BROKEN):
                    await self._connect()
                if self.job_may_be_lost and self.done and (self.error or {}).get("code") == "job_lost":
                    self.asked_again += 1
                    self.request_id, self.frames = "", []
        self.ended_at = time.time()
        return self

    async def _connect(self) -> None:
        gateway = self.world.live_gateway()
        if gateway is None:
            return await asyncio.sleep(AGAIN)
        self.connections += 1
        url = f"{gateway.api}/chat/completions"
        headers = {"x-railstream-on-disconnect": self.policy}
        try:
            if self.request_id:
                opening = opened(f"{url}/{self.request_id}?stream=true", after=self.last_id, headers=headers)
            else:
                opening = opened(url, body=self.question.body(), headers=headers | {"idempotency-key": self.key})
            async with asyncio.timeout(SILENCE) as silence, opening as stream:
                await self._read(stream, silence)
        except BROKEN:
            await asyncio.sleep(AGAIN / 4)
            raise

    async def _read(self, stream: Stream, silence: asyncio.Timeout) -> None:
        if stream.status != 200:
            return await self._refused(stream)
        self.request_id = self.request_id or stream.request_id
        limit = self.cuts.pop(0) if self.cuts else None
        pieces = _noticed(stream.pieces(), silence)
        stream.pieces = lambda: pieces  # type: ignore[method-assign]
        self._stream = stream
        try:
            await stream.read(count=limit)
            if limit is not None and len(stream.raw) >= limit:
                stream.reset()
        finally:
            self._stream = None
            self.comments += stream.comments
            self._keep(stream.frames)

    def _keep(self, frames: list[Frame]) -> None:
        if any(frame.event == "gap" for frame in frames):
            self.before_gaps.append(self.frames + frames)
            self.frames = []  # it was told: what it has is not all, so it reads the stream anew
        else:
            self.frames += frames

    async def _refused(self, stream: Stream) -> None:
        body = (await stream.body()).decode()
        if stream.status in (429, 503):
            self.refusals += 1
            await asyncio.sleep(AGAIN)
        elif stream.status == 204:
            self.frames.append(Frame(b"data: [DONE]\n\n"))
        elif stream.status == 400 and "Last-Event-ID" in body:
            self.before_gaps.append(self.frames)
            self.frames = []
            await asyncio.sleep(AGAIN)
        elif stream.status >= 500:
            await asyncio.sleep(AGAIN)
        else:
            self.lost = f"{stream.status}: {body[:200]}"


async def _noticed(pieces: AsyncIterator[bytes], silence: asyncio.Timeout) -> AsyncIterator[bytes]:
    """Each piece puts off the moment at which silence ends the connection."""
    async for piece in pieces:
        silence.reschedule(asyncio.get_running_loop().time() + SILENCE)
        yield piece
