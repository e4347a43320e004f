"""What `generate` returns when options are given, and what `check` returns: NeMo Guardrails' shapes."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, Field

from railstream_engine.api.explain import LLMCallInfo


class ExecutedAction(BaseModel):
    action_name: str
    action_params: dict[str, Any] = Field(default_factory=dict)
    return_value: Any = None
    llm_calls: list[LLMCallInfo] = Field(default_factory=list)
    started_at: float | None = None
    finished_at: float | None = None
    duration: float | None = None


class ActivatedRail(BaseModel):
    """One check by one rail. ``type`` is ``input`` or ``output``; times in unix seconds."""

    type: str
    name: str
    decisions: list[str] = Field(default_factory=list)
    executed_actions: list[ExecutedAction] = Field(default_factory=list)
    stop: bool = False
    additional_info: dict[str, Any] | None = None
    started_at: float | None = None
    finished_at: float | None = None
    duration: float | None = None


class GenerationStats(BaseModel):
    """Durations in seconds. Those of rails add up even where rails ran at the same time."""

    input_rails_duration: float | None = None
    dialog_rails_duration: float | None = None
    generation_rails_duration: float | None = None
    output_rails_duration: float | None = None
    total_duration: float | None = None
    llm_calls_duration: float = 0
    llm_calls_count: int = 0
    llm_calls_total_prompt_tokens: int = 0
    llm_calls_total_completion_tokens: int = 0
    llm_calls_total_tokens: int = 0

    @classmethod
    def of(cls, calls: Sequence[LLMCallInfo], rails: Sequence[ActivatedRail], seconds: float) -> GenerationStats:
        def spent(stage: str) -> float | None:
            durations = [rail.duration or 0 for rail in rails if rail.type == stage]
            return sum(durations) if durations else None

        general = [call.duration or 0 for call in calls if call.task == "general"]
        return cls(
            input_rails_duration=spent("input"),
            generation_rails_duration=sum(general) if general else None,
            output_rails_duration=spent("output"),
            total_duration=seconds,
            llm_calls_duration=sum(call.duration or 0 for call in calls),
            llm_calls_count=len(calls),
            llm_calls_total_prompt_tokens=sum(call.prompt_tokens or 0 for call in calls),
            llm_calls_total_completion_tokens=sum(call.completion_tokens or 0 for call in calls),
            llm_calls_total_tokens=sum(call.total_tokens or 0 for call in calls),
        )


class GenerationLog(BaseModel):
    activated_rails: list[ActivatedRail] = Field(default_factory=list)
    stats: GenerationStats = Field(default_factory=GenerationStats)
    llm_calls: list[LLMCallInfo] | None = None
    internal_events: None = None
    colang_history: None = None

    def print_summary(self) -> None:
        """Print the durations, and each check and call in its order."""
        stats = self.stats
        total = stats.total_duration or 0
        print(f"\n# General stats\n\n- Total time: {total:.2f}s")
        for name in ("input_rails", "generation_rails", "output_rails"):
            seconds = getattr(stats, f"{name}_duration")
            if seconds is not None:
                share = f" ({100 * seconds / total:.2f}%)" if total else ""
                print(f"  - [{seconds:.2f}s]{share}: {name.replace('_', ' ').capitalize()}")
        if stats.llm_calls_count:
            print(
                f"- {stats.llm_calls_count} LLM calls, {stats.llm_calls_duration:.2f}s total duration, "
                f"{stats.llm_calls_total_prompt_tokens} total prompt tokens, "
                f"{stats.llm_calls_total_completion_tokens} total completion tokens, "
                f"{stats.llm_calls_total_tokens} total tokens."
            )
        if self.activated_rails:
            print("\n# Detailed stats\n")
        for rail in self.activated_rails:
            print(f"- [{rail.duration or 0:.2f}s] {rail.type.upper()} ({rail.name}): {', '.join(rail.decisions)}")


class GenerationResponse(BaseModel):
    """``response``: the assistant's message in a list, or its text when a prompt was given."""

    response: str | list[dict[str, Any]]
    llm_output: dict[str, Any] | None = None
    output_data: dict[str, Any] | None = None
    log: GenerationLog | None = None
    state: dict[str, Any] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    reasoning_content: str | None = None
    llm_metadata: dict[str, Any] | None = None


class RailType(StrEnum):
    INPUT = "input"
    OUTPUT = "output"


class RailStatus(StrEnum):
    PASSED = "passed"
    MODIFIED = "modified"
    BLOCKED = "blocked"


class RailsResult(BaseModel):
    """``content``: the checked text, masked where rails rewrote it, or the refusal. ``rail``: the flow that blocked."""

    status: RailStatus
    content: str
    rail: str | None = None
