"""Several judging rails over one text: in turn or at once, each within its time, and closed when one fails.

A rail that raises, takes too long or answers nonsense blocks the text, with the code ``rail_execution_failure``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from railstream.call_kinds import CALL_KINDS
from railstream.errors import CallError, RailError, RailstreamError

from railstream_engine.rails.judges.verdict import Stage, Verdict
from railstream_engine.rails.port import Turn, Violation

log = logging.getLogger(__name__)


class Judge(Protocol):
    """A rail that looks at a whole piece of text. Built once per config; what differs per request is in the turn."""

    flow: str

    async def judge(self, text: str, turn: Turn) -> Verdict: ...


@dataclass(frozen=True, slots=True)
class Ruling:
    """The text as the rails leave it, and what stopped it."""

    text: str
    violation: Violation | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    judges: Sequence[Judge]
    stage: Stage
    parallel: bool
    timeout: float
    """Seconds for each rail and text."""
    refusal: Callable[[str], str]
    """What is said instead of a text that this flow blocked."""

    async def rule(self, text: str, turn: Turn) -> Ruling:
        if self.parallel and len(self.judges) > 1:
            return await self._rule_at_once(text, turn)
        for judge in self.judges:
            ruling = await self._ask(judge, text, turn)
            if ruling.violation is not None:
                return ruling
            text = ruling.text
        return Ruling(text)

    async def _rule_at_once(self, text: str, turn: Turn) -> Ruling:
        """The first block wins and the others are cancelled."""
        tasks = [asyncio.ensure_future(self._ask(judge, text, turn)) for judge in self.judges]
        try:
            for next_done in asyncio.as_completed(tasks):
                ruling = await next_done
                if ruling.violation is not None:
                    return ruling
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        rewritten = [(judge, task.result().text) for judge, task in zip(self.judges, tasks, strict=True)]
        changed = [(judge, new) for judge, new in rewritten if new != text]
        if len(changed) > 1:
            flows = " and ".join(repr(str(judge.flow)) for judge, _ in changed)
            return Ruling("", self.failure(changed[1][0].flow, f"{flows} rewrote the same text; set `parallel: False`"))
        return Ruling(changed[0][1] if changed else text)

    async def _ask(self, judge: Judge, text: str, turn: Turn) -> Ruling:
        began = time.time()
        verdict, violation = await self._verdict(judge, text, turn)
        turn.activated.append(activation(self.stage, judge.flow, began, verdict))
        if verdict is not None and verdict.decision == "rewrite" and verdict.text is not None:
            return Ruling(verdict.text)
        return Ruling(text, violation)

    async def _verdict(self, judge: Judge, text: str, turn: Turn) -> tuple[Verdict | None, Violation | None]:
        limit = asyncio.timeout(self.timeout)
        try:
            async with limit:
                verdict = await judge.judge(text, turn)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return None, self.failure(judge.flow, "it cancelled itself")
        except (Exception, SystemExit) as error:  # an action may raise anything, and whatever it is blocks the text
            if limit.expired():
                return None, self.failure(judge.flow, f"no answer within {self.timeout:g} s")
            return None, self.failure(judge.flow, cause_of(error, judge.flow))
        return verdict, self.violation(judge.flow) if verdict.decision == "block" else None

    def violation(self, flow: str) -> Violation:
        return Violation(str(flow), self.stage, f"Blocked by {flow} rails.", refusal=self.refusal(flow))

    def tool_violation(self, flow: str, why: str) -> Violation:
        """A tool call that may not be made; ``why`` is in our words and names nothing that the model wrote."""
        said = f"Blocked by {flow} rails: {why}."
        return Violation(str(flow), self.stage, said, refusal=self.refusal(flow))

    def failure(self, flow: str, cause: str) -> Violation:
        return Violation(
            str(flow),  # plain text: a violation becomes an event, and its encoder takes no subclass of str
            self.stage,
            f"Internal error in {flow} rail: {cause}",
            RailError.type,
            RailError.code,
            self.refusal(flow),
        )


def cause_of(error: BaseException, flow: str) -> str:
    """What a client may know of a failure: our own words; of any other error its kind, and the log has more.

    A judge's call is about the text that it judges, and its provider may quote that.
    """
    if isinstance(error, CallError):
        return CALL_KINDS[error.code].message
    if isinstance(error, RailstreamError):
        return str(error)
    log.warning("rail %r raised %s", str(flow), type(error).__name__, exc_info=error)
    return f"it raised {type(error).__name__}"


def activation(stage: Stage, flow: str, began: float, verdict: Verdict | None) -> dict[str, Any]:
    """NeMo's ``activated_rails`` entry. ``verdict`` ``None``: the rail failed."""
    ended = time.time()
    times = {"started_at": began, "finished_at": ended, "duration": ended - began}
    action = flow.partition(" $")[0].strip().replace(" ", "_")
    decision = verdict.decision if verdict is not None else "failed"
    executed = {"action_name": action, "action_params": {}, "return_value": decision, "llm_calls": [], **times}
    return {
        "type": stage,
        "name": str(flow),
        "decisions": [f"execute {action}", *([] if decision == "allow" else [decision])],
        "executed_actions": [executed],
        "stop": decision in ("block", "failed"),
        "additional_info": {"reason": verdict.reason} if verdict is not None and verdict.reason else None,
        **times,
    }
