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
"""The lane of an answer that is no operation; an operation's is its index."""


class JobRuns:
    """`find` what earlier attempts have stored before anything else is asked of it."""

    def __init__(self, job: Job, tools: Tools, attempt: int, leaves: Callable[[], bool]) -> None:
        """``leaves``: whether the attempt ends without a terminal event, so that its runs go on."""
        self._job = job
        self._tools = tools
        self._attempt = attempt
        self._leaves = leaves
        self._found: dict[str, Run] = {}
        self._lanes: dict[str, KeptRuns] = {}

    @property
    def calls(self) -> list[str]:
        """The calls that began the runs which earlier attempts have stored."""
        return [run.call for run in self._found.values()]

    async def find(self) -> None:
        """Read what earlier attempts have stored."""
        lanes = [str(index) for index, _ in enumerate(self._job.operations)] or [PLAIN]
        fields, key = [_field(lane) for lane in lanes], keys.request(self._job.id)
        stored: Any = await self._tools.leases.writing.repeat(lambda: self._tools.redis.hmget(key, fields))
        for lane, value in zip(lanes, stored, strict=True):
            try:
                if value is not None:
                    self._found[lane] = msgspec.json.decode(value, type=Run)
            except msgspec.MsgspecError:
                log.warning("request %s: the run of its provider was kept by another release", self._job.id)

    def account(self, lost: LostCalls) -> None:
        """Learn what was released of the found runs, for the case that they cannot be read again."""
        for lane, run in self._found.items():
            of_run = lost.of_run(run.call)
            try:
                runs = self.of(lane) if of_run is not None else None
            except RailstreamError:  # this worker is not configured as the one that began it
                continue
            if runs is not None and of_run is not None:
                (runs.lost,) = usages_of([of_run], self._job, self._tools)

    def of(self, lane: str = PLAIN) -> KeptRuns | None:
        """The runs of one answer; ``None`` for a model that has none.

        Raises:
            RailstreamError: the answer's config or model is not served here.
        """
        if self._job.kind == "checks":
            return None
        if lane not in self._lanes:
            asked = self._job if lane == PLAIN else self._job.operations[int(lane)]
            model = self._tools.models.of(self._tools.config_of(asked), asked.model)["main"]
            found = self._found.get(lane)
            runs = KeptRuns(
                self._job, self._tools, self._attempt, model, field=_field(lane), found=found, leaves=self._leaves
            )
            if found is None and not runs.possible:
                return None
            self._lanes[lane] = runs
        return self._lanes[lane]

    def end(self, record: Callable[[Usage], None]) -> asyncio.Future[Any] | None:
        """The request ends: cancel what still runs for it. Returns what may be waited for."""
        tasks = [task for runs in self._lanes.values() if (task := runs.end(record)) is not None]
        return asyncio.gather(*tasks) if tasks else None


def _field(lane: str) -> str:
    return "run" if lane == PLAIN else f"run:{lane}"
