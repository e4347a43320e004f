"""The operator's own action in the place of a built-in rail: it means what NeMo Guardrails' flow makes of it.

The flows of NeMo's library ask each action a question of its own: whether the text is allowed, whether something was
found in it, how accurate it is, or what it should read instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from railstream_engine.rails.judges.action_judge import ActionJudge
from railstream_engine.rails.judges.verdict import Verdict, allow, block, rewrite

FOUND: Final = frozenset({
    "self check hallucination", "jailbreak detection heuristics", "detect sensitive data on input",
    "detect sensitive data on output",
})  # fmt: skip
"""Flows that block when their action returns true: it says that something was found."""
REWRITES: Final = frozenset({"mask sensitive data on input", "mask sensitive data on output"})
"""Flows that put the text that their action returns in the place of the one it was given."""
LEAST_ACCURACY: Final = 0.5
"""Of `self check facts`, whose action returns how accurate the answer is, from 0 to 1."""


class ReplacedJudge(ActionJudge):
    """Runs an action for a built-in flow."""

    def _verdict(self, returned: Any) -> Verdict:
        assert self._flow.built_in is not None
        name = self._flow.built_in.name
        if isinstance(returned, Mapping):
            return _of_mapping(returned)
        if isinstance(returned, bool) and name in FOUND:
            return block() if returned else allow()
        if name in REWRITES and isinstance(returned, str):
            return rewrite(returned)
        if name == "self check facts" and isinstance(returned, float | int):
            return allow() if returned >= LEAST_ACCURACY else block()
        return super()._verdict(returned)


def _of_mapping(returned: Mapping[str, Any]) -> Verdict:
    """What the library's actions return: ``allowed``, ``on_topic``, or ``is_match`` and ``is_injection``."""
    found = [returned.get(name) for name in ("is_match", "is_injection")]
    allowed = [returned[name] for name in ("allowed", "on_topic") if name in returned]
    if any(value is True for value in found) or any(value is not True for value in allowed):
        return block()
    if not allowed and not any(value is False for value in found):
        return block()  # it says neither yes nor no
    return allow()
