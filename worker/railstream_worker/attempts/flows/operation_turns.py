"""The turns of a flow's operations on the branches of its session: each asks and answers there once, in order.

An operation's question stands as soon as it begins, its answer before the stream says that it has finished. A later
attempt writes in the place of an earlier one, so a worker's death doubles nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from railstream.conversations import Entry, RedisSessions, prompt_of
from railstream.job import Job, Operation
from redis.asyncio import Redis

from railstream_worker.attempts.branch_turn import Ending, answer_of, keep, keep_rewritten
from railstream_worker.attempts.flows.operation_sink import Known, Past
from railstream_worker.attempts.kept_question import Rewritten
from railstream_worker.queue.writing import is_outage

log = logging.getLogger(__name__)


class FlowTurns:
    """Of a job that belongs to no session it does nothing."""

    def __init__(self, redis: Redis, job: Job) -> None:
        self._redis = redis
        self._job = job
        self._sessions = RedisSessions(redis)
        self._known: Mapping[str, Known] | None = None

    def keeps(self, operation: Operation) -> bool:
        return bool(self._job.session and operation.branch)

    async def resume(self, known: Mapping[str, Known], attempt: int, *, takeover: bool) -> None:
        """Before anything runs. What the stream does not know to have begun is taken back."""
        self._known = known
        job = self._job
        branches = {operation.branch: set[str]() for operation in job.operations if self.keeps(operation)}
        for operation in job.operations:
            if self.keeps(operation) and known[operation.id].started:
                branches[operation.branch].add(operation.id)
        for branch, begun in branches.items() if takeover else ():
            await self._sessions.resume_operations(job.session, branch, job.id, attempt, begun)

    async def begin(self, operation: Operation, question: dict[str, Any], attempt: int) -> list[dict[str, Any]]:
        """What was said on the branch before. Raises ``BranchNotFoundError`` when it was deleted meanwhile."""
        job = self._job
        entry = Entry(question, time.time(), job.id, operation=operation.id)
        await self._sessions.begin_operation(job.session, operation.branch, attempt, entry)
        return prompt_of(await self._sessions.history(job.session, operation.branch, job.id, operation.id))

    async def keep_question(self, operation: Operation, rewritten: Rewritten, attempt: int) -> None:
        """The question as the input rails have rewritten it: the last message of the operation's own."""
        question = rewritten.get(len(self._job.messages))
        if question is None or not self.keeps(operation):
            return
        job, entry = self._job, Entry(question, time.time(), self._job.id, operation=operation.id)
        await keep_rewritten(
            lambda: self._sessions.begin_operation(job.session, operation.branch, attempt, entry), job.id
        )

    async def end_one(self, operation: Operation, ending: Ending, attempt: int) -> None:
        """Keep what an operation has answered. Raises nothing but an outage of Redis."""
        if not self.keeps(operation) or self._known is None:
            return
        message = {"role": "assistant", "content": self._known[operation.id].text}
        answer = answer_of(ending, message, self._job.id, operation.id)
        if answer is not None:
            await keep(self._sessions, self._job, operation.branch, attempt, answer)

    async def end(self, ending: Ending, attempt: int) -> None:
        """The job ends so: what still ran was cut. Raises nothing but an outage of Redis."""
        if not any(self.keeps(operation) for operation in self._job.operations):
            return
        if self._known is None:
            try:
                self._known = (await Past(self._job).read(self._redis, self._job.id)).known
            except Exception as error:
                if is_outage(error):
                    raise
                log.exception("request %s: what was released cannot be kept on its branches", self._job.id)
                return
        for operation in self._job.operations:
            known = self._known[operation.id]
            if known.started and not known.outcome:
                await self.end_one(operation, ending, attempt)
