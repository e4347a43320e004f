"""Rails over given messages, as `LLMRails` offers them: which of them run, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from railstream.errors import InvalidRequestError

from railstream_engine.api.response import RailsResult, RailType
from railstream_engine.api.run import Run
from railstream_engine.generation.checks import Stage, check, stages_of

BY_TYPE: Mapping[RailType, Stage] = {RailType.INPUT: "input", RailType.OUTPUT: "output"}


def chosen_stages(messages: Sequence[Mapping[str, Any]], rail_types: Sequence[RailType | str] | None) -> set[Stage]:
    """Those that are asked for, else those that there are messages for. Raises ``InvalidRequestError``."""
    if rail_types is None:
        return stages_of(messages)
    if isinstance(rail_types, str) or not rail_types:
        raise InvalidRequestError("rail_types must be a list of 'input' and 'output'", param="rail_types")
    try:
        return {BY_TYPE[RailType(kind)] for kind in rail_types}
    except ValueError as error:
        raise InvalidRequestError(f"{error}; known are input and output", param="rail_types") from error


async def check_messages(run: Run, stages: set[Stage]) -> RailsResult:
    """The content of the result is the last one checked: the assistant's message, if output rails ran."""
    try:
        result = await check(run.engine, run.turn, stages)
    finally:
        run.record_rails()
    return RailsResult.model_validate(msgspec.to_builtins(result))
