"""How `stream_async` shows an answer: as strings, or as dicts whose last one has the metadata.

A text is never parsed here, so nothing that a model says can be taken for an error.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

from railstream.events import Blocked, Failed

from railstream_engine.api import payloads
from railstream_engine.api.external import External
from railstream_engine.api.handler import StreamingHandler
from railstream_engine.api.run import Run
from railstream_engine.generation.generation import Outcome

NOTHING_KNOWN: Final = {"response_metadata": None, "usage_metadata": None}


async def strings(run: Run) -> AsyncGenerator[str, None]:
    """Texts, and one last string more when the answer was stopped: the violation, the error, or the refusal."""
    async with aclosing(run.pieces()) as pieces:
        async for piece in pieces:
            if isinstance(piece, str):
                yield piece
            elif (last := last_words(run, piece)) is not None:
                yield last


async def dicts(run: Run) -> AsyncGenerator[dict[str, Any], None]:
    """``{"text": …}`` each, the last one empty and with ``metadata``."""
    async with aclosing(run.pieces()) as pieces:
        async for piece in pieces:
            if isinstance(piece, str):
                yield {"text": piece}
                continue
            if (last := last_words(run, piece)) is not None:
                yield {"text": last}
            yield {"text": "", "metadata": metadata(run, piece)}


async def passed_on(external: External, *, include_metadata: bool) -> AsyncGenerator[Any, None]:
    """An external generator that no rail looks at."""
    async with aclosing(external.texts()) as texts:
        async for text in texts:
            yield {"text": text} if include_metadata else text
    if include_metadata:
        yield {"text": "", "metadata": NOTHING_KNOWN | external.metadata}


def last_words(run: Run, outcome: Outcome) -> str | None:
    """What is said at the end of an answer that did not just finish."""
    if isinstance(outcome, Failed):
        return payloads.failure(outcome, run.witness.error)
    if isinstance(outcome, Blocked):
        return outcome.refusal if outcome.form == "refusal" else payloads.violation(outcome)
    return None


async def hand_over(run: Run, outcome: Outcome, handler: StreamingHandler) -> None:
    """What a handler gets at the end: the refusal, if there is one, and the metadata."""
    last = outcome.refusal if isinstance(outcome, Blocked) else ""
    if last:
        await handler.push_chunk(last)
    await handler.push_chunk(None, metadata(run, outcome))


def metadata(run: Run, outcome: Outcome) -> dict[str, Any]:
    """``None`` stands for what the provider did not send."""
    if run.external is not None:
        return NOTHING_KNOWN | run.external.metadata
    tokens, calls = run.caller.tokens, [call for call in run.info.llm_calls if call.task == "general"]
    usage = None
    if tokens is not None:
        usage = {
            "input_tokens": tokens.input_tokens,
            "output_tokens": tokens.output_tokens,
            "total_tokens": tokens.input_tokens + tokens.output_tokens,
        }
    response = None
    if calls:
        model = run.caller.response.model or calls[-1].llm_model_name
        response = {"finish_reason": finish_reason(outcome), "model_name": model}
    return {"response_metadata": response, "usage_metadata": usage}


def finish_reason(outcome: Outcome) -> str | None:
    if isinstance(outcome, Blocked):
        return "content_filter"
    return None if isinstance(outcome, Failed) else outcome.finish_reasons[0]
