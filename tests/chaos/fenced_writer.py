"""One worker's share of the fenced stream, on an event loop of its own: it stands still unless somebody runs it.

So a test decides what each writer gets to do, and in which order, with the product's own publisher and scripts.
"""

from __future__ import annotations

import asyncio
import itertools

from harness.waiting import until
from railstream import events, keys, usage
from railstream.events import Finished, Usage
from railstream.job import Job
from railstream.topology.connect import connect
from railstream_worker.queue.reservation import note_history, reserve
from railstream_worker.queue.scripts import END
from railstream_worker.stream.fenced_stream import FencedStream
from railstream_worker.stream.publisher import Publisher

PATIENCE = 5.0
"""Seconds within which a writer that runs must have its answers."""

_generation = itertools.count(1)


class Writer:
    """``generation`` names one attempt's text: no two attempts of any writer say the same."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self.stream: FencedStream | None = None
        self.generation = ""
        self.ended = False
        self._url = url
        self._runner = asyncio.Runner()
        self._runner.run(self._start())

    async def _start(self) -> None:
        self.redis = connect(self._url, PATIENCE, name=f"{self.name}-commands")
        self.publisher = Publisher(self._url, timeout=PATIENCE, flush_interval=0, name=f"{self.name}-tokens")
        self._running = asyncio.create_task(self.publisher.run())
        await self.publisher.connected.wait()

    def close(self) -> None:
        async def stop() -> None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
            await self.redis.aclose()

        self._runner.run(stop())
        self._runner.close()

    def note_history(self) -> None:
        """What a worker does when it starts."""
        self._runner.run(note_history(self.redis))

    def leave(self) -> None:
        """The process is gone: nothing it has not sent will be."""
        if self.stream is not None:
            self.publisher.close(self.stream)
            self.stream.fence()
        self.stream = None

    def begin(self, job: Job, entry: bytes) -> int:
        """Reserve an attempt; its number, or 0 when there is nothing to run. ``entry``: the job's in the queue."""
        return self._runner.run(self._begin(job, entry))

    async def _begin(self, job: Job, entry: bytes) -> int:
        # A pooled connection that was cut meanwhile is found out here, as a worker's next try would.
        await self.redis.connection_pool.disconnect()
        # A gateway writes the record before the job: a Redis that has forgotten it has forgotten the job too.
        await self.redis.hsetnx(keys.request(job.id), "status", "queued")
        reserved = await reserve(self.redis, job, entry, worker=self.name, reason="lease_expired")
        if reserved.attempt:
            self.generation, self.ended = f"{self.name}.{next(_generation)}", False
            self.stream = FencedStream(
                job.id, reserved.attempt, self.publisher, opening=reserved.opening, after=reserved.after
            )
            self.publisher.open(self.stream)
        return reserved.attempt

    def append(self, count: int) -> None:
        """Hand over chunks that say whose they are and which; nothing is sent before the loop runs."""

        async def hand_over() -> None:
            assert self.stream is not None
            for _ in range(count):
                self.stream.chunk(self.says(self.stream.sent + 1))

        self._runner.run(hand_over())

    def says(self, seq: int) -> bytes:
        return b'{"content":"%b:%d "}' % (self.generation.encode(), seq)

    def record(self) -> None:
        async def hand_over() -> None:
            assert self.stream is not None
            spent = Usage(call=self.generation, task="general", model="m", provider="p", input_tokens=1)
            entry = usage.entry(self.stream.request_id, "", spent)
            self.stream.script(usage.SCRIPT, entry.keys, *entry.args)

        self._runner.run(hand_over())

    def send_only(self) -> None:
        """Let it write, but not hear the answers."""

        async def one_turn() -> None:
            await asyncio.sleep(0)

        self._runner.run(one_turn())

    def settle(self) -> None:
        """Let it run until all it sent is stored, or it knows that it is fenced."""
        self._runner.run(self._settle())

    async def _settle(self) -> None:
        if (stream := self.stream) is not None:
            await until(lambda: stream.fenced or stream.stored == stream.sent, timeout=PATIENCE, interval=0.001)

    def end(self) -> bool:
        """Write the terminal event; whether the fence let it pass."""

        async def write() -> bool:
            assert self.stream is not None
            name, data = events.encode(Finished(finish_reasons=("stop",)))
            request = keys.request(self.stream.request_id).encode()
            async with asyncio.timeout(PATIENCE):
                return await self.stream.script(END, (self.stream.key, request), name, data, b"2.0", b"600")

        self.ended = self._runner.run(write())
        return self.ended
