"""What LLM calls were made for an answer: one `LLMCallInfo` each, and the summary of them.

An `ExplainInfo` is of one call of the API and of the task that made it: nothing adds up behind the caller's back.
"""

from __future__ import annotations

import asyncio
import threading
from weakref import WeakKeyDictionary

from pydantic import BaseModel, Field


class LLMCallInfo(BaseModel):
    """One LLM call, of the answer (task ``general``) or of a rail. Times in unix seconds, durations in seconds.

    Token figures are ``None`` when the provider sent none: they are never estimated.
    """

    task: str | None = None
    duration: float | None = None
    total_tokens: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    started_at: float | None = None
    finished_at: float | None = None
    id: str | None = None
    request_id: str | None = None
    """``X-Request-Id`` that the provider was sent."""
    prompt: str | None = None
    completion: str | None = None
    llm_model_name: str | None = None
    llm_provider_name: str | None = None
    from_cache: bool = False


class ExplainInfo(BaseModel):
    """Grows while the calls end."""

    llm_calls: list[LLMCallInfo] = Field(default_factory=list)
    colang_history: str = ""
    """Always empty: there is no Colang here."""

    def print_llm_calls_summary(self) -> None:
        """Print how many calls were made, what they took, and what they used."""
        print(self.summary())

    def summary(self) -> str:
        if not self.llm_calls:
            return "No LLM calls were made."
        seconds = sum(call.duration or 0 for call in self.llm_calls)
        tokens = sum(call.total_tokens or 0 for call in self.llm_calls)
        count = len(self.llm_calls)
        lines = [f"Summary: {count} LLM call(s) took {seconds:.2f} seconds {_used(tokens, tokens)}", ""]
        for number, call in enumerate(self.llm_calls, 1):
            used = _used(call.total_tokens or 0, tokens)
            lines.append(f"{number}. Task `{call.task}` took {call.duration or 0:.2f} seconds {used}")
        return "\n".join((*lines, ""))


def _used(tokens: int, total: int) -> str:
    return f"and used {tokens} tokens." if total else "."


class Explanations:
    """The latest `ExplainInfo` of each task, or of each thread that calls without an event loop."""

    def __init__(self) -> None:
        self._latest: WeakKeyDictionary[object, ExplainInfo] = WeakKeyDictionary()
        self._last = ExplainInfo()

    def begin(self) -> ExplainInfo:
        """A new, empty one for the caller."""
        info = self._latest[_caller()] = self._last = ExplainInfo()
        return info

    def current(self) -> ExplainInfo:
        """The caller's own. A thread that has none, after ``asyncio.run`` say, gets the last one that was begun."""
        caller = _caller()
        if isinstance(caller, threading.Thread):
            return self._latest.get(caller, self._last)
        return self._latest.get(caller, ExplainInfo())


def _caller() -> object:
    try:
        return asyncio.current_task() or threading.current_thread()
    except RuntimeError:
        return threading.current_thread()
