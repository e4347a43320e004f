"""All runs that providers keep for one attempt's job: one of a plain answer, one of each operation."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec
from railstream import keys
from railstream.errors import RailstreamError
from railstream.events import Usage
from railstream.job import Job

from railstream_worker.attempts.released import LostCalls
from railstream_worker.attempts.resources import Tools
from railstream_worker.attempts.runs import KeptRuns, Run
from railstream_worker.attempts.takeover import usages_of

log = logging.getLogger(__name__)

PLAIN = ""
"""The name of an answer that is no operation; an operation's is its index."""


class JobRuns:
    """Call `find` first where an earlier attempt may have stored runs."""

    def __init__(self, job: Job, tools: Tools, attempt: int, leaves: Callable[[], bool]) -> None:
        """``leaves``: whether the attempt ends without a terminal event, so that its runs go on."""
        self._job = job
        self._tools = tools
        self._attempt = attempt
        self._leaves = leaves
        self._found: dict[str, Run] = {}
        self._by_answer: dict[str, KeptRuns] = {}

    @property
    def calls(self) -> list[str]:
        """The calls that began the runs which earlier attempts have stored."""
        return [run.call for run in self._found.values()]

    async def find(self) -> None:
        """Read what earlier attempts have stored."""
        answers = [str(index) for index, _ in enumerate(self._job.operations)] or [PLAIN]
        fields, key = [_field(answer) for answer in answers], keys.request(self._job.id)
        stored: Any = await self._tools.leases.writing.repeat(lambda: self._tools.redis.hmget(key, fields))
        for answer, value in zip(answers, stored, strict=True):
            try:
                if value is not None:
                    self._found[answer] = msgspec.json.decode(value, type=Run)
            except msgspec.MsgspecError:
                log.warning("request %s: the run of its provider was kept by another release", self._job.id)

    def account(self, lost: LostCalls) -> None:
        """Learn what was released of the found runs, for the case that they cannot be read again."""
        for answer, run in self._found.items():
            of_run = lost.of_run(run.call)
            try:
                runs = self.of(answer) if of_run is not None else None
            except RailstreamError:  # this worker is not configured as the one that began it
                lost.unfollow(run.call)
                continue
            if runs is not None and of_run is not None:
                (runs.lost,) = usages_of([of_run], self._job, self._tools)

    def of(self, answer: str = PLAIN) -> KeptRuns | None:
        """The runs of one answer; ``None`` for a model that has none.

        Raises:
            RailstreamError: the answer's config or model is not served here.
        """
        if self._job.kind == "checks":
            return None
        if answer not in self._by_answer:
            owner = self._job if answer == PLAIN else self._job.operations[int(answer)]
            model = self._tools.models.of(self._tools.config_of(owner), owner.model)["main"]
            found = self._found.get(answer)
            runs = KeptRuns(
                self._job, self._tools, self._attempt, model, field=_field(answer), found=found, leaves=self._leaves
            )
            if found is None and not runs.possible:
                return None
            self._by_answer[answer] = runs
        return self._by_answer[answer]

    async def stored(self) -> None:
        """Wait until every run is stored, so that another worker can read it."""
        for runs in self._by_answer.values():
            await runs.stored()

    def end(self, record: Callable[[Usage], None]) -> asyncio.Future[Any] | None:
        """The request ends: cancel what still runs for it. Returns what may be waited for."""
        tasks = [task for runs in self._by_answer.values() if (task := runs.end(record)) is not None]
        return asyncio.gather(*tasks) if tasks else None


def _field(answer: str) -> str:
    return "run" if answer == PLAIN else f"run:{answer}"
