"""Check what the model will see before it sees it, and mask what it must not see.

Local rails (patterns, terms, detectors, masks) read every message of the conversation and every option that holds text,
whatever its role. Judging rails read what a user or an outsider wrote: all roles but those that the config trusts. A
message that passed is remembered, and not read again by the same rail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from railstream.messages import each_text_in

from railstream_engine.rails.input.passed import Passed
from railstream_engine.rails.input.readers import Conversation, JudgingReader, LocalReader, Reader
from railstream_engine.rails.judges.judge_group import Judge, Panel
from railstream_engine.rails.judges.local_judges import IncrementalJudge
from railstream_engine.rails.matching.searcher import LoopShare
from railstream_engine.rails.port import Turn, Violation

Message = Mapping[str, Any]
MOST_TEXTS: Final = 10_000
"""Texts of one request. Each is read alone and with its neighbours."""


async def check_messages(
    panel: Panel, turn: Turn, passed: Passed, trusted: Sequence[str] = (), *, only: Sequence[str] = ()
) -> tuple[Sequence[Message], Violation | None]:
    """The messages to generate from, and what stopped one of them. Masked options take their place in the turn.

    ``trusted``: roles that judging rails do not read; ``only``: the roles that any of these rails reads, if not all.
    """
    count = await _count_texts(turn)
    if count > MOST_TEXTS and panel.judges:
        why = f"the request has more than {MOST_TEXTS} texts, the most that rails read; join them into fewer parts"
        return turn.messages, panel.failure(panel.judges[0].flow, why)
    conversation = Conversation(list(turn.messages), turn.params, count)
    readers = [_reader(judge, conversation, passed, trusted, only, copies=panel.parallel) for judge in panel.judges]
    ruling = await replace(panel, judges=readers).rule("", turn)
    if ruling.violation is not None:
        return turn.messages, ruling.violation
    for reader in readers:
        if reader.conversation != conversation:
            conversation = reader.conversation
    turn.params = conversation.params
    return conversation.messages, None


def _reader(
    judge: Judge,
    conversation: Conversation,
    passed: Passed,
    trusted: Sequence[str],
    only: Sequence[str],
    *,
    copies: bool,
) -> Reader:
    """``copies``: rails run at once, so each reads what the client sent."""
    own = Conversation(list(conversation.messages), conversation.params, conversation.count) if copies else conversation
    if isinstance(judge, IncrementalJudge):
        return LocalReader(judge, own, passed, only)
    return JudgingReader(judge, own, passed, only, trusted)


async def _count_texts(turn: Turn) -> int:
    """How many texts the request has; one more than `MOST_TEXTS` where there are more."""
    share, count = LoopShare(), 0
    for _ in each_text_in([*turn.messages, turn.params]):
        count += 1
        if count > MOST_TEXTS:
            break
        await share.give_way()
    return count
