"""Several answers of one job, on its one stream: each under its own rails, with its own finish, usage and error.

What the stream says is finished stays finished: after a takeover the rest goes on from what was released.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from graphlib import TopologicalSorter
from typing import Any

import msgspec
from opentelemetry.context import Context
from railstream import events
from railstream.config import RailsConfig
from railstream.errors import RailstreamError
from railstream.events import (
    Blocked,
    Cancelled,
    Failed,
    Finished,
    OperationFinished,
    OperationSkipped,
    OperationStarted,
    Usage,
)
from railstream.graph import in_turn, with_context
from railstream.job import Job, Operation
from railstream_engine.generation.calls import Caller
from railstream_engine.generation.generation import Outcome
from railstream_engine.generation.left_call import Leave
from railstream_engine.generation.sink import Room
from railstream_engine.schedule import SKIPPED, Schedule

from railstream_worker.attempts.answering import Answering
from railstream_worker.attempts.branch_turn import Ending
from railstream_worker.attempts.flows.operation_sink import Known, Lane
from railstream_worker.attempts.flows.operation_turns import FlowTurns
from railstream_worker.attempts.job_runs import JobRuns
from railstream_worker.attempts.kept_question import Rewritten
from railstream_worker.attempts.released import Released
from railstream_worker.attempts.resources import Tools
from railstream_worker.queue.writing import is_outage
from railstream_worker.stream.fenced_stream import FencedStream

log = logging.getLogger(__name__)


class OperationsRun:
    def __init__(
        self,
        job: Job,
        known: dict[str, Known],
        turns: FlowTurns,
        tools: Tools,
        stream: FencedStream,
        room: Room,
        record: Callable[[Usage], None],
        context: Context,
        earlier: Sequence[Usage],
        leaver: Callable[[RailsConfig], Leave | None],
        runs: JobRuns,
    ) -> None:
        """``known``: what earlier attempts have done; nothing, in the first one. ``earlier``: their answering calls.
        ``leaver``: who reads on the calls that an operation of this config leaves.
        """
        self._job = job
        self._known = known
        self._turns = turns
        self._tools = tools
        self._stream = stream
        self._attempt = stream.attempt
        self._room = room
        self._record = record
        self._context = context
        self._earlier = earlier
        self._leaver = leaver
        self._runs = runs
        self._index = {operation.id: index for index, operation in enumerate(job.operations)}
        self._edges = {operation.id: operation.needs for operation in job.operations}
        self._order = in_turn(self._edges, {operation.id: operation.branch for operation in job.operations})
        self._usages: list[dict[str, Any]] = []

    async def run(self) -> Finished:
        """Until every operation has finished, failed or been skipped."""
        for known in self._known.values():
            if known.usage is not None:
                self._usages.append(known.usage)
        outcomes = {id: known.outcome for id, known in self._known.items() if known.outcome}
        schedule = Schedule(
            self._edges,
            self._one,
            self._skip,
            soft=self._order,
            limit=self._job.concurrency,
            on_failure=self._job.on_failure,
            outcomes=outcomes,
        )
        await schedule.run()
        reasons = tuple(self._known[operation.id].finish_reason for operation in self._job.operations)
        return Finished(finish_reasons=reasons, usage=total(self._usages), operations=len(reasons))

    async def _one(self, id: str) -> bool:
        operation = self._job.operations[self._index[id]]
        index, known = self._index[id], self._known[id]
        self._tell(OperationStarted(id, index, operation.model, operation.branch, operation.configs))
        known.started = True
        lane = Lane(self._room, index, id, known, names_role=self._job.kind == "chat" and index > 0)
        try:
            outcome = await self._answer(operation, lane)
        except RailstreamError as error:
            outcome = Failed(error=error.envelope())
        except Exception as error:
            if is_outage(error):
                raise  # the job is given to a worker again, and then Redis may answer
            log.exception("request %s: operation %r failed unexpectedly", self._job.id, id)
            outcome = Failed(
                error=RailstreamError("the worker failed unexpectedly; its log has the details").envelope()
            )
        await self._end_turn(operation, outcome)
        finished = ended(id, index, outcome, lane)
        known.end(finished)
        if finished.usage is not None:
            self._usages.append(finished.usage)
        self._tell(finished)
        return finished.error is None

    async def _answer(self, operation: Operation, lane: Lane) -> Outcome:
        tools, known = self._tools, lane.known
        config = tools.config_of(operation)
        models = tools.models.of(config, operation.model)
        lane.keep = partial(self._keep_question, operation)
        number = f"{self._attempt}.{lane.index}"
        record, leave, runs = self._record, self._leaver(config), self._runs.of(str(lane.index))
        caller = Caller(self._job.id, number, models, record, tools.telemetry.calls, self._context, leave)
        answering = Answering(
            job=self._own_job(operation),
            config=config,
            engine=tools.engines.of(config),
            models=models,
            caller=caller,
            sink=lane,
            released=Released(known.text, known.chunks, known.only_text, known.parts),
            history=await self._history(operation),
            earlier=[usage for usage in self._earlier if usage.call.split(".")[1] == str(lane.index)],
            record_rails=partial(tools.telemetry.rails.record, parent_context=self._context),
            runs=runs,
        )
        outcome = await answering.run()
        if runs is not None and (cancelled := runs.end(self._record)) is not None:
            await cancelled
        return outcome

    def _own_job(self, operation: Operation) -> Job:
        """The job as if it had this operation alone."""
        own = msgspec.structs.replace(
            self._job, kind="chat", model=operation.model, configs=operation.configs, operations=()
        )
        if not operation.instruction:
            return own
        return msgspec.structs.replace(own, messages=[*self._job.messages, self._question(operation)])

    def _question(self, operation: Operation) -> dict[str, Any]:
        answers = {id: self._known[id].text for id in operation.context_from}
        return {"role": "user", "content": with_context(operation.instruction, answers)}

    async def _history(self, operation: Operation) -> list[dict[str, Any]]:
        """What was said before on the operation's branch: all of it, or by this job when it has no session."""
        if self._turns.keeps(operation):
            return await self._turns.begin(operation, self._question(operation), self._attempt)
        said: list[dict[str, Any]] = []
        for id in self._before(operation):
            other = self._job.operations[self._index[id]]
            if self._known[id].finish_reason in ("stop", "length"):
                said += [self._question(other), {"role": "assistant", "content": self._known[id].text}]
        return said

    def _before(self, operation: Operation) -> list[str]:
        """Operations of the same branch that go before this one, the first one first."""
        same = {other.id for other in self._job.operations if other.branch and other.branch == operation.branch}
        order = [id for id in TopologicalSorter(self._order).static_order() if id in same]
        return order[: order.index(operation.id)] if order else []

    async def _skip(self, id: str, reason: str) -> None:
        """One that an earlier attempt had begun was cut."""
        if self._known[id].started:
            await self._end_turn(self._job.operations[self._index[id]], Cancelled(reason))
        self._known[id].outcome = SKIPPED
        self._tell(OperationSkipped(id, self._index[id], reason))

    async def _keep_question(self, operation: Operation, rewritten: Rewritten) -> None:
        await self._turns.keep_question(operation, rewritten, self._attempt)

    async def _end_turn(self, operation: Operation, ending: Ending) -> None:
        await self._tools.leases.writing.repeat(lambda: self._turns.end_one(operation, ending, self._attempt))

    def _tell(self, payload: events.Operations) -> None:
        self._stream.event(*events.encode(payload))


def ended(id: str, index: int, outcome: Outcome, lane: Lane) -> OperationFinished:
    """How an operation's own answer ended, in the words of a choice."""
    usage = outcome.usage
    match outcome:
        case Finished(finish_reasons=reasons):
            return OperationFinished(id, index, reasons[0] if reasons else "stop", usage)
        case Blocked(form="refusal", refusal=refusal):
            lane.chunk(msgspec.json.encode({"content": refusal}))
            return OperationFinished(id, index, "stop", usage)
        case Blocked(form="content_filter"):
            return OperationFinished(id, index, "content_filter", usage)
        case Blocked(error=error):
            return OperationFinished(id, index, "content_filter", usage, error)
        case Failed(error=error):
            return OperationFinished(id, index, "error", usage, error)


def total(usages: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The sum of what providers told; ``None`` when none did."""
    if not usages:
        return None
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    return {name: sum(int(usage.get(name) or 0) for usage in usages) for name in names}
