"""Money that a dead worker spent: the usage records of its calls, written by the attempt that takes over."""

from __future__ import annotations

from collections.abc import Iterator

from railstream.errors import RailstreamError
from railstream.events import Usage
from railstream.job import Job, Operation

from railstream_worker.released import ANSWER, LostCalls
from railstream_worker.tools import Tools


def usages_of(lost: LostCalls, job: Job, tools: Tools) -> Iterator[Usage]:
    """Calls that died with their worker cost money: what is known of them is that they were made."""
    for call, chunks in lost:
        asked = job.operations[int(call.split(".")[1])] if job.operations else job
        name, provider = _model(asked, tools)
        yield Usage(
            call=call,
            task=ANSWER,
            model=name,
            provider=provider,
            outcome="lost",
            complete=False,
            chunks=chunks,
        )


def _model(asked: Job | Operation, tools: Tools) -> tuple[str, str]:
    try:
        model = tools.models.of(tools.configs.get(asked.configs), asked.model)["main"]
    except RailstreamError:  # this worker is not configured as the one that died
        return asked.model, ""
    return model.name, model.provider
