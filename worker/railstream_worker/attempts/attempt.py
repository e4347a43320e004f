"""One attempt at one job: reserve it, generate, end its stream, acknowledge; or let go of it.

What may end an attempt: its outcome, a cancel, a drain, and the loss of its claim or of its fence. After a loss it
writes nothing more; the job belongs to somebody else. Everything it ever wrote was accepted under its own ids.

Whatever else is raised ends in one terminal event. Limit, cancel and deadline are looked at before anything that can
raise, and the end does not depend on the answer. While Redis is out an attempt waits as long as its claim is its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import time
from functools import partial
from typing import Any

from railstream import events, keys, requests
from railstream import usage as ledger
from railstream.config import RailsConfig
from railstream.errors import QueueTimeoutError, RailstreamError, RequestExpiredError
from railstream.events import Cancelled, Failed
from railstream.telemetry.spans import OpenSpan
from railstream_engine.generation.calls import Caller
from railstream_engine.generation.generation import Outcome
from railstream_engine.generation.left_call import Leave
from redis.exceptions import RedisError

from railstream_worker.attempts.answering import Answering
from railstream_worker.attempts.attempt_line import AttemptLine
from railstream_worker.attempts.branch_turn import BranchTurn
from railstream_worker.attempts.flows.operation_sink import Past
from railstream_worker.attempts.flows.operation_turns import FlowTurns
from railstream_worker.attempts.flows.operations import OperationsRun
from railstream_worker.attempts.job_runs import JobRuns
from railstream_worker.attempts.released import LostCalls, Released, read_released
from railstream_worker.attempts.resources import Tools
from railstream_worker.attempts.takeover import usages_of
from railstream_worker.attempts.usage_drains import Recorded
from railstream_worker.queue.delivery import Delivery
from railstream_worker.queue.reservation import Reservation, fail, reserve
from railstream_worker.queue.scripts import END
from railstream_worker.queue.writing import is_outage
from railstream_worker.stream.fenced_stream import FencedStream
from railstream_worker.stream.publisher import Publisher

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
        self._records: dict[str, Recorded] = {}
        self._runs = JobRuns(delivery.job, tools, 0, self._leaves)
        self._line = AttemptLine(delivery.job, delivery.arrival.deliveries)
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
        """To the end of the attempt. Raises nothing but a cancellation from outside."""
        self._task = asyncio.current_task()
        tools, arrival = self._tools, self.delivery.arrival
        claim = tools.leases.hold(
            arrival.entry, lambda: self.stop(Stop.LOST), since=arrival.claimed_at, deliveries=arrival.deliveries
        )
        try:
            await self._run()
        except asyncio.CancelledError:
            if self._stop is None:
                raise
            if self._stop is Stop.DRAIN:
                await self._runs.stored()
                await tools.leases.hand_back(arrival.entry, arrival.deliveries)
        except Exception as error:
            await self._let_go(error)
        finally:
            tools.leases.release(claim)
            if self._stream is not None:
                tools.publisher.close(self._stream)
            # All three refer back to the attempt: nothing of it waits for a garbage collection.
            self._stream = self._caller = None
            del self._runs
            if self._span is not None:
                self._span.end(self._error_type)
            self._line.let_go = self._stop.value if self._stop is not None else ""
            self._line.write(tools.request_log, tools.worker)

    async def _let_go(self, error: Exception) -> None:
        """No end could be written. The job is given to a worker again; after the last delivery it is dead."""
        leases, arrival = self._tools.leases, self.delivery.arrival
        if is_outage(error) and not await leases.writing.probe():
            log.info("request %s: handed back while redis is out: %s", self.job.id, error)
            return await leases.hand_back(arrival.entry, arrival.deliveries)
        log.error("request %s: the attempt could not be ended: %s", self.job.id, error, exc_info=error)
        if arrival.deliveries > self._tools.max_deliveries:
            failed = await self.delivery.bury(self._tools)
            with contextlib.suppress(RedisError):  # the stream is unusable: a gateway tells its readers
                await fail(self._tools.redis, self.job.id, arrival.entry, failed, self._retention)
            await self.delivery.acknowledge(self._tools)

    async def _run(self) -> None:
        repeat = self._tools.leases.writing.repeat
        if self._belongs_to_another():
            log.warning("request %s: handed back, since its config is another one here", self.job.id)
            arrival = self.delivery.arrival
            return await self._tools.leases.hand_back(arrival.entry, arrival.deliveries)
        reservation = await repeat(self._reserve)
        if not reservation.attempt:
            if owner := reservation.running_on:
                return await repeat(lambda: self._tools.leases.hand_over(self.delivery.arrival.entry, owner))
            if reservation.forgotten:
                await repeat(self._forget)
            return await repeat(partial(self.delivery.acknowledge, self._tools))
        self._line.attempt = reservation.attempt
        stream = self._stream = FencedStream(
            self.job.id,
            reservation.attempt,
            self._tools.publisher,
            opening=reservation.opening,
            record=self._record_of_request(reservation.attempt),
            after=reservation.after,
            on_fenced=lambda: self.stop(Stop.LOST),
        )
        self._runs = JobRuns(self.job, self._tools, reservation.attempt, self._leaves)
        self._tools.publisher.open(stream)
        try:
            payload = await self._outcome(reservation)
        except asyncio.CancelledError:
            if self._stop is not Stop.CANCEL:
                raise
            payload = Cancelled(reason=self._reason, usage=self._usage())
        self._error_type = error_type_of(payload)
        self._ending = True
        turn = self._flow_turns if self.job.operations else self._turn
        await repeat(lambda: turn.end(payload, reservation.attempt))
        cancelled = self._runs.end(self._record)
        if await self._end(stream, payload):
            self._line.end(payload)
            await repeat(partial(self.delivery.acknowledge, self._tools))
        if cancelled is not None:
            await cancelled

    def _record_of_request(self, attempt: int) -> dict[Any, Any]:
        """The request's hash as this worker knows it, for a Redis that has lost it. No reader's leaving cancels it."""
        tools, entry = self._tools, self.delivery.arrival.entry
        queued = requests.encode(self.job, pool=tools.pool, policy="continue")
        running = {"status": "running", requests.MARK: entry, "job": entry, "owner": tools.worker, "attempt": attempt}
        return queued | running

    def _belongs_to_another(self) -> bool:
        """Whether another worker may hold the job's config as the gateway does, and there is time for it to come."""
        tools, job = self._tools, self.job
        if tools.on_config_mismatch == "fail" or time.time() > (job.deadline or job.created):
            return False
        return not tools.holds_configs_of(job)

    async def _reserve(self) -> Reservation:
        return await reserve(
            self._tools.redis,
            self.job,
            self.delivery.arrival.entry,
            worker=self._tools.worker,
            reason=self._takeover_reason,
            first=self.delivery.arrival.first,
        )

    async def _forget(self) -> None:
        """The request's record expired while it waited: it is not generated."""
        error = RequestExpiredError(
            f"the record of request {self.job.id} had expired before a worker took it; send the request again"
        )
        log.warning("%s", error)
        failed = Failed(error=error.envelope(), status=error.status, retryable=error.retryable)
        await fail(self._tools.redis, self.job.id, self.delivery.arrival.entry, failed, self._retention)

    async def _outcome(self, reservation: Reservation) -> Outcome | Cancelled:
        """What the stream ends with. Raises nothing but an outage of Redis and a cancellation."""
        try:
            self._span = self._begin_span(reservation)
            stopped = await self._stopped(reservation)
            if stopped is not None:
                await self._account_for_lost(reservation)
                return stopped
            if self.job.operations:
                return await self._run_operations(reservation)
            return await self._run_answer(reservation)
        except RailstreamError as error:
            return Failed(error=error.envelope(), status=error.status, retryable=error.retryable)
        except Exception as error:
            if is_outage(error):
                raise  # the job is given to a worker again, and then Redis may answer
            log.exception("request %s: the attempt failed unexpectedly", self.job.id)
            return _unexpected(self._usage())

    async def _stopped(self, reservation: Reservation) -> Failed | Cancelled | None:
        """What ends the job before it runs, if something does."""
        job = self.job
        if reservation.cancelled or self._stop is Stop.CANCEL:
            return Cancelled(reason=reservation.cancelled or self._reason)
        if self.delivery.arrival.deliveries > self._tools.max_deliveries:
            return await self.delivery.bury(self._tools)
        # Both differences are of one clock each: the clocks of gateway, worker and Redis need not agree.
        if job.deadline and not reservation.takeover and reservation.waited > job.deadline - job.created:
            late = QueueTimeoutError(f"no worker began request {job.id} in {job.deadline - job.created:g} s")
            return Failed(error=late.envelope(), status=late.status, retryable=late.retryable)
        return None

    async def _account_for_lost(self, reservation: Reservation) -> None:
        """Record the calls that died with earlier workers, of a job that does not go on."""
        if not reservation.takeover:
            return
        try:
            lost = (await (self._read_past() if self.job.operations else self._read_released())).lost
            self._record_lost(lost)
        except Exception:
            log.exception("request %s: its lost calls cannot be recorded", self.job.id)

    async def _run_answer(self, reservation: Reservation) -> Outcome | Cancelled:
        released, earlier = Released(), list[events.Usage]()
        if reservation.takeover:
            released = await self._read_released()
            log.info("request %s: taken over after %d chunks", self.job.id, released.chunks)
            earlier = self._record_lost(released.lost)
        return await self._answer(reservation, released, earlier)

    async def _read_released(self) -> Released:
        await self._runs.find()
        call = next(iter(self._runs.calls), "")
        released = await self._tools.leases.writing.repeat(lambda: read_released(self._tools.redis, self.job, call))
        self._runs.account(released.lost)
        return released

    async def _read_past(self) -> Past:
        await self._runs.find()
        calls, tools = self._runs.calls, self._tools
        past = await tools.leases.writing.repeat(lambda: Past(self.job, calls).read(tools.redis, self.job.id))
        self._runs.account(past.lost)
        return past

    def _leaves(self) -> bool:
        """Whether the attempt ends without a terminal event: the job goes on elsewhere."""
        return self._stop in (Stop.LOST, Stop.DRAIN)

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
        config = tools.config_of(job)
        self._retention = config.railstream.retention or tools.retention
        models = tools.models.of(config, job.model)
        self._caller = Caller(
            job.id,
            reservation.attempt,
            models,
            self._record,
            tools.telemetry.calls,
            self._span.context,
            self._leaver(config),
        )
        answering = Answering(
            job=job,
            config=config,
            engine=tools.engines.of(config),
            models=models,
            caller=self._caller,
            sink=self._turn.hear(_Room(self._stream, tools.publisher), released),
            released=released,
            history=await tools.leases.writing.repeat(self._turn.history),
            earlier=earlier,
            record_rails=partial(tools.telemetry.rails.record, parent_context=self._span.context),
            runs=self._runs.of(),
        )
        return await answering.run()

    async def _run_operations(self, reservation: Reservation) -> Outcome | Cancelled:
        assert self._stream is not None
        assert self._span is not None
        tools, past, earlier = self._tools, Past(self.job), list[events.Usage]()
        if reservation.takeover:
            past = await self._read_past()
            earlier = self._record_lost(past.lost)
        known, attempt, takeover = past.known, reservation.attempt, reservation.takeover
        await tools.leases.writing.repeat(lambda: self._flow_turns.resume(known, attempt, takeover=takeover))
        room, context = _Room(self._stream, tools.publisher), self._span.context
        run = OperationsRun(
            self.job,
            past.known,
            self._flow_turns,
            tools,
            self._stream,
            room,
            self._record,
            context,
            earlier,
            self._leaver,
            self._runs,
        )
        return await run.run()

    def _record(self, usage: events.Usage) -> None:
        if self._stream is not None and self._stop is not Stop.LOST:
            day = ledger.today()
            entry = ledger.entry(self.job.id, self.job.tenant, usage, day=day)
            self._records[usage.call] = Recorded(day, self._stream.script(ledger.SCRIPT, entry.keys, *entry.args))

    def _leaver(self, config: RailsConfig) -> Leave | None:
        """Who reads on what this attempt leaves; nobody, unless the attempt goes on to its own end."""

        def recorded(call: str) -> Recorded | None:
            return None if self._leaves() else self._records.get(call)

        return self._tools.drains.leaver(self.job, config.railstream.usage_drain, recorded)

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
        try:
            name, data = events.encode(payload)
        except Exception:
            log.exception("request %s: its end cannot be encoded", self.job.id)
            name, data = events.encode(_unexpected())
        accepted = stream.script(
            END,
            (stream.key, keys.request(self.job.id).encode()),
            name,
            data,
            f"{time.time():.3f}".encode(),
            b"%d" % max(1, round(self._retention)),
        )
        return await accepted


def _unexpected(usage: dict[str, Any] | None = None) -> Failed:
    error = RailstreamError("the worker failed unexpectedly; its log has the details")
    return Failed(error=error.envelope(), usage=usage)


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
