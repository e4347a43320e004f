"""A whole answer, as `generate` returns it: a message, a text, or a `GenerationResponse`."""

from __future__ import annotations

import json
from typing import Any

from railstream.errors import CallError
from railstream.events import Blocked, Failed

from railstream_engine.api.output import Sheet
from railstream_engine.api.response import GenerationResponse
from railstream_engine.api.run import Run
from railstream_engine.generation.generation import Outcome

Answer = dict[str, Any] | str | GenerationResponse


def answer_of(run: Run, sheet: Sheet, outcome: Outcome) -> Answer:
    """The answer as it was asked for: a blocked one is the refusal, and nothing of what was said.

    Raises:
        RailstreamError: of an answer that failed, with the text that was let through.
    """
    if isinstance(outcome, Failed):
        error = run.failure(outcome)
        if isinstance(error, CallError):
            error.partial = "".join(sheet.texts)  # in place of what the model said: rails may have kept some of it
        raise error
    message = _blocked(run, outcome) if isinstance(outcome, Blocked) else _message(sheet)
    reasoning = "" if isinstance(outcome, Blocked) else "".join(sheet.reasoning)
    if run.question.wants_response:
        return GenerationResponse(
            response=_text(message) if run.question.is_prompt else [message],
            log=run.log(),
            state={} if run.question.has_state else None,
            tool_calls=message.get("tool_calls"),
            reasoning_content=reasoning or None,
        )
    if reasoning:
        message["content"] = f"<think>{reasoning}</think>\n{message['content']}"
    return _text(message) if run.question.is_prompt else message


def _message(sheet: Sheet) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(sheet.texts)}
    return message | {"tool_calls": sheet.tool_calls} if sheet.tool_calls else message


def _blocked(run: Run, blocked: Blocked) -> dict[str, Any]:
    if run.config.enable_rails_exceptions:
        kind = f"{blocked.stage.capitalize()}RailException"
        return {"role": "exception", "content": {**blocked.error, "type": kind}}
    return {"role": "assistant", "content": blocked.refusal}


def _text(message: dict[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else json.dumps(content)
