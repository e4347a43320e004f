"""Money that a dead worker spent: the usage records of its calls, written by the attempt that takes over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from railstream.errors import RailstreamError
from railstream.events import Usage
from railstream.job import Job, Operation
from railstream.tokens import input_estimate, output_estimate

from railstream_worker.attempts.released import ANSWER
from railstream_worker.attempts.resources import Tools


def usages_of(lost: Iterable[tuple[str, int, int]], job: Job, tools: Tools) -> Iterator[Usage]:
    """Calls that died with their worker cost money: all that is known of them is what they released."""
    for call, chunks, characters in lost:
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
            estimated_input_tokens=input_estimate(job.messages),
            estimated_output_tokens=output_estimate(chunks, characters),
        )


def _model(asked: Job | Operation, tools: Tools) -> tuple[str, str]:
    try:
        model = tools.models.of(tools.configs.get(asked.configs), asked.model)["main"]
    except RailstreamError:  # this worker is not configured as the one that died
        return asked.model, ""
    return model.name, model.provider


def over_attempts(earlier: Sequence[Usage], last: dict[str, Any] | None) -> dict[str, Any] | None:
    """OpenAI's usage object of an answer that took several attempts: the sum, and each call's part under ``attempts``.

    Args:
        earlier: the answering calls of the attempts before; a part whose tokens are our estimate says so.
        last: the provider's usage object of the last call; ``None`` when it sent none.
    """
    if not earlier:
        return last
    parts = [_part(usage) for usage in earlier] + ([last] if last is not None else [])
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    return {name: sum(int(part.get(name) or 0) for part in parts) for name in names} | {"attempts": parts}


def _part(usage: Usage) -> dict[str, Any]:
    counted = usage.input_tokens is not None and usage.output_tokens is not None
    asked = usage.input_tokens if counted else usage.estimated_input_tokens
    answered = usage.output_tokens if counted else usage.estimated_output_tokens
    part = {
        "prompt_tokens": asked or 0,
        "completion_tokens": answered or 0,
        "total_tokens": (asked or 0) + (answered or 0),
        "outcome": usage.outcome,
    }
    return part if counted else part | {"estimated": True}
