"""One attempt at one job: reserve it, generate, end its stream, acknowledge; or let go of it without a word.

What may end an attempt: its outcome, a cancel, a drain, and the loss of its claim or of its fence. After a loss it
writes nothing more; the job belongs to somebody else. Everything it ever wrote was accepted under its own ids.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import time
from functools import partial
from typing import Any

from railstream import events, keys
from railstream import usage as ledger
from railstream.errors import RailstreamError
from railstream.events import Cancelled, Failed
from railstream.telemetry.spans import OpenSpan
from redis.exceptions import RedisError

from railstream_worker.answering import Answering
from railstream_worker.calls import Caller
from railstream_worker.delivery import Delivery
from railstream_worker.fenced_stream import FencedStream
from railstream_worker.flows.lane import Past
from railstream_worker.flows.operations import OperationsRun
from railstream_worker.flows.turns import FlowTurns
from railstream_worker.generation import Outcome
from railstream_worker.publisher import Publisher
from railstream_worker.released import LostCalls, Released, read_released
from railstream_worker.reservation import Reservation, reserve
from railstream_worker.scripts import END
from railstream_worker.takeover import usages_of
from railstream_worker.tools import Tools
from railstream_worker.turn import BranchTurn

log = logging.getLogger(__name__)


class Stop(enum.Enum):
    """Why an attempt's task was cancelled from outside."""

    CANCEL = "cancel"
    DRAIN = "drain"
    LOST = "lost"


class Attempt:
    """`run` it in a task of its own; `stop` it from anywhere."""

    def __init__(self, delivery: Delivery, tools: Tools) -> None:
        self.delivery = delivery
        self.job = delivery.job
        self._tools = tools
        self._task: asyncio.Task[Any] | None = None
        self._stop: Stop | None = None
        self._reason = ""
        self._ending = False
        self._error_type = "cancelled"
        self._retention = tools.retention
        self._stream: FencedStream | None = None
        self._caller: Caller | None = None
        self._span: OpenSpan | None = None
        self._turn = BranchTurn(tools.redis, delivery.job)
        self._flow_turns = FlowTurns(tools.redis, delivery.job)

    def stop(self, why: Stop, reason: str = "") -> None:
        """The first reason counts, but for a loss: that one always does, because then nothing may be written."""
        if why is not Stop.LOST and (self._stop is not None or self._ending):
            return
        first = self._stop is None
        self._stop, self._reason = why, reason
        # A cancel that comes before the reservation is found by it: the flag stands in the request's hash.
        begun = self._stream is not None or why is not Stop.CANCEL
        if first and begun and self._task is not None:
            self._task.cancel()

    async def run(self) -> None:
        """To the end of the attempt. Raises nothing but what the process should log."""
        self._task = asyncio.current_task()
        tools, arrival = self._tools, self.delivery.arrival
        claim = tools.leases.hold(arrival.entry, lambda: self.stop(Stop.LOST), since=arrival.claimed_at)
        try:
            await self._run()
        except asyncio.CancelledError:
            if self._stop is None:
                raise
            if self._stop is Stop.DRAIN:
                await tools.leases.hand_back(arrival.entry)
        finally:
            if self._span is not None:
                self._span.end(self._error_type)
            tools.leases.release(claim)
            if self._stream is not None:
                tools.publisher.close(self._stream)
            self._stream = self._caller = None  # both tell us: nothing of an attempt waits for a garbage collection

    async def _run(self) -> None:
        reservation = await reserve(
            self._tools.redis,
            self.job,
            self.delivery.arrival.entry,
            worker=self._tools.worker,
            reason=self._takeover_reason,
        )
        if not reservation.attempt:
            return await self.delivery.acknowledge(self._tools)
        self._span = self._begin_span(reservation)
        stream = self._stream = FencedStream(
            self.job.id,
            reservation.attempt,
            self._tools.publisher,
            opening=reservation.opening,
            after=reservation.after,
            on_fenced=lambda: self.stop(Stop.LOST),
        )
        self._tools.publisher.open(stream)
        try:
            payload = await self._outcome(reservation)
        except asyncio.CancelledError:
            if self._stop is not Stop.CANCEL:
                raise
            payload = Cancelled(reason=self._reason, usage=self._usage())
        self._error_type = error_type_of(payload)
        self._ending = True
        await (self._flow_turns if self.job.operations else self._turn).end(payload, reservation.attempt)
        if await self._end(stream, payload):
            await self.delivery.acknowledge(self._tools)

    async def _outcome(self, reservation: Reservation) -> Outcome | Cancelled:
        """What the stream ends with."""
        try:
            if self.job.operations:
                return await self._run_operations(reservation)
            return await self._run_answer(reservation)
        except RailstreamError as error:
            return Failed(error=error.envelope(), status=error.status, retryable=error.retryable)
        except RedisError:
            raise  # the queue delivers the job again, and then Redis may answer
        except Exception:
            log.exception("request %s: the attempt failed unexpectedly", self.job.id)
            unexpected = RailstreamError("the worker failed unexpectedly; its log has the details")
            return Failed(error=unexpected.envelope(), usage=self._usage())

    async def _stopped(self, reservation: Reservation) -> Failed | Cancelled | None:
        """What ends the job before it runs, if something does."""
        if reservation.cancelled or self._stop is Stop.CANCEL:
            return Cancelled(reason=reservation.cancelled or self._reason)
        if self.delivery.arrival.deliveries > self._tools.max_deliveries:
            return await self.delivery.bury(self._tools)
        return None

    async def _run_answer(self, reservation: Reservation) -> Outcome | Cancelled:
        released, earlier = Released(), list[events.Usage]()
        if reservation.takeover:
            released = await read_released(self._tools.redis, self.job)
            log.info("request %s: taken over after %d chunks", self.job.id, released.chunks)
            earlier = self._record_lost(released.lost)
        stopped = await self._stopped(reservation)
        if stopped is not None:
            return stopped
        return await self._answer(reservation, released, earlier)

    def _record_lost(self, lost: LostCalls) -> list[events.Usage]:
        """Record the calls that died with their worker. Returns all answering calls of the attempts before."""
        died = list(usages_of(lost, self.job, self._tools))
        for usage in died:
            self._record(usage)
        return [*lost.answers, *died]

    async def _answer(self, reservation: Reservation, released: Released, earlier: list[events.Usage]) -> Outcome:
        assert self._stream is not None
        assert self._span is not None
        job, tools = self.job, self._tools
        config = tools.configs.get(job.configs)
        self._retention = config.railstream.retention or tools.retention
        models = tools.models.of(config, job.model)
        self._caller = Caller(
            job.id, reservation.attempt, models, self._record, tools.telemetry.calls, self._span.context
        )
        answering = Answering(
            job=job,
            config=config,
            engine=tools.engines.of(config),
            models=models,
            caller=self._caller,
            sink=self._turn.hear(_Room(self._stream, tools.publisher), released),
            released=released,
            history=await self._turn.history(),
            earlier=earlier,
            record_rails=partial(tools.telemetry.rails.record, parent_context=self._span.context),
        )
        return await answering.run()

    async def _run_operations(self, reservation: Reservation) -> Outcome | Cancelled:
        assert self._stream is not None
        assert self._span is not None
        tools, past, earlier = self._tools, Past(self.job), list[events.Usage]()
        if reservation.takeover:
            await past.read(tools.redis, self.job.id)
            earlier = self._record_lost(past.lost)
        await self._flow_turns.resume(past.known, reservation.attempt, takeover=reservation.takeover)
        stopped = await self._stopped(reservation)
        if stopped is not None:
            return stopped
        room, context = _Room(self._stream, tools.publisher), self._span.context
        run = OperationsRun(
            self.job, past.known, self._flow_turns, tools, self._stream, room, self._record, context, earlier
        )
        return await run.run()

    def _record(self, usage: events.Usage) -> None:
        if self._stream is not None and self._stop is not Stop.LOST:
            entry = ledger.entry(self.job.id, self.job.tenant, usage)
            self._stream.script(ledger.SCRIPT, entry.keys, *entry.args)

    def _usage(self) -> dict[str, Any] | None:
        return None if self._caller is None else self._caller.usage

    def _begin_span(self, reservation: Reservation) -> OpenSpan:
        telemetry, arrival = self._tools.telemetry, self.delivery.arrival
        if reservation.takeover:
            telemetry.instruments.took_over(self._takeover_reason)
        else:
            telemetry.instruments.queue_wait(time.time() - self.job.created)
        if arrival.deliveries > 1:
            telemetry.instruments.redelivered()
        return telemetry.tracing.process(
            arrival.headers, self.job.id, attempt=reservation.attempt, message_id=arrival.entry.decode()
        )

    @property
    def _takeover_reason(self) -> str:
        """A job that was handed back is delivered for the same time again; a lost one for the next."""
        return "lease_expired" if self.delivery.arrival.deliveries > 1 else "handed_over"

    async def _end(self, stream: FencedStream, payload: Outcome | Cancelled) -> bool:
        """Write the terminal event; false when the fence refused it."""
        name, data = events.encode(payload)
        accepted = stream.script(
            END,
            (stream.key, keys.request(self.job.id).encode()),
            name,
            data,
            f"{time.time():.3f}".encode(),
            b"%d" % max(1, round(self._retention)),
        )
        return await accepted


def error_type_of(payload: Outcome | Cancelled) -> str:
    """What the attempt's span says of how it ended; empty when all went well."""
    if isinstance(payload, Failed):
        return str(payload.error.get("code") or "failed")
    return "cancelled" if isinstance(payload, Cancelled) else ""


class _Room:
    """The attempt's stream as a sink that can be full."""

    def __init__(self, stream: FencedStream, publisher: Publisher) -> None:
        self.chunk = stream.chunk
        self.has_room = partial(publisher.has_room, stream)
        self._stream = stream
        self._publisher = publisher

    async def room(self) -> None:
        await self._publisher.room(self._stream)
