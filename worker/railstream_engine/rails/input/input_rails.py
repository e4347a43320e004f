"""Check what the model will see before it sees it, and mask what it must not see.

Local rails (patterns, terms, detectors, masks) read every message of the conversation and every option that holds text,
whatever its role. Judging rails read what a user or an outsider wrote: all roles but those that the config trusts. A
message that passed is remembered, and not read again by the same rail.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Final

from railstream.errors import RailError
from railstream.messages import Path, Text, other_texts, parts_of, replaced, text_of, texts_in

from railstream_engine.rails.input.passed import Passed, digest_of
from railstream_engine.rails.judges.judge_group import Judge, Panel
from railstream_engine.rails.judges.local_judges import IncrementalJudge
from railstream_engine.rails.judges.verdict import Verdict, allow, block, rewrite
from railstream_engine.rails.matching.pieces import Piece
from railstream_engine.rails.port import Turn, Violation
from railstream_engine.rails.tools.tool_texts import Blocked, read_arguments, readable

Message = Mapping[str, Any]
INSTRUCTIONS: Final = ("system", "developer")
"""Roles whose messages some providers take out of the conversation."""
MOST_JOINED: Final = 12
"""Parts of a run of which each stretch is read as one text; of longer runs only stretches of ``MOST_NEIGHBOURS``."""
MOST_NEIGHBOURS: Final = 4


@dataclass(slots=True)
class Conversation:
    """What goes to the provider, as the rails so far have left it."""

    messages: list[Message]
    params: Mapping[str, Any]


async def check_messages(
    panel: Panel, turn: Turn, passed: Passed, trusted: Sequence[str] = (), *, only: Sequence[str] = ()
) -> tuple[Sequence[Message], Violation | None]:
    """The messages to generate from, and what stopped one of them. Masked options take their place in the turn.

    ``trusted``: roles that judging rails do not read; ``only``: the roles that any of these rails reads, if not all.
    """
    conversation = Conversation(list(turn.messages), turn.params)
    readers = [_reader(judge, conversation, passed, trusted, only, copies=panel.parallel) for judge in panel.judges]
    ruling = await replace(panel, judges=readers).rule("", turn)
    if ruling.violation is not None:
        return turn.messages, ruling.violation
    for reader in readers:
        if reader.conversation != conversation:
            conversation = reader.conversation
    turn.params = conversation.params
    return conversation.messages, None


class _Reader:
    """A rail over a conversation, in the place of one over a text. What it rewrites is in ``conversation``."""

    def __init__(self, flow: str, conversation: Conversation, passed: Passed, only: Sequence[str]) -> None:
        self.flow = flow
        self._only = only
        self.conversation = conversation
        self._passed = passed

    async def judge(self, _: str, turn: Turn) -> Verdict:
        before = (list(self.conversation.messages), self.conversation.params)
        verdict = await self._rule(turn)
        if verdict.decision == "block":
            return verdict
        changed = before != (self.conversation.messages, self.conversation.params)
        return rewrite(str(self.flow)) if changed else allow()

    async def _rule(self, turn: Turn) -> Verdict:
        raise NotImplementedError

    def _reads(self, message: Message) -> bool:
        return not self._only or message.get("role") in self._only

    def _digest(self, *values: Any) -> bytes:
        return digest_of(str(self.flow), *values)


class _LocalReader(_Reader):
    """A local rail: each text alone, then the parts of a message, and of messages of one role in a row, joined."""

    def __init__(self, rail: IncrementalJudge, conversation: Conversation, passed: Passed, only: Sequence[str]) -> None:
        super().__init__(rail.flow, conversation, passed, only)
        self._rail = rail

    async def _rule(self, turn: Turn) -> Verdict:
        conversation = self.conversation
        try:
            for at, message in enumerate(conversation.messages):
                if self._reads(message):
                    conversation.messages[at] = await self._read_value(message)
            for run in runs(conversation.messages):
                if all(self._reads(conversation.messages[at]) for at in run):
                    read = await self._read_joined([conversation.messages[at] for at in run])
                    for at, message in zip(run, read, strict=True):
                        conversation.messages[at] = message
            if not self._only:
                conversation.params = await self._read_value(conversation.params)
        except Blocked:
            return block()
        return allow()

    async def _read_value(self, value: Mapping[str, Any]) -> Mapping[str, Any]:
        digest = self._digest("value", value)
        if self._passed.holds(digest):
            return value
        rewritten: dict[Path, str] = {}
        for text in texts_in(value):
            if (read := await read_arguments(text.text, self._read)) != text.text:
                _refuse_fixed(text)
                rewritten[text.path] = read
        if rewritten:
            return {**replaced(value, rewritten)}
        self._passed.add(digest)
        return value

    async def _read_joined(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Parts are one text to a model: a match may begin in one of them and end in another."""
        texts = [text for message in messages for text in parts_of(message)]
        digest = self._digest("joined", texts)
        if len(texts) < 2 or self._passed.holds(digest):
            return messages
        joined = list(texts)
        for start, end in neighbours(len(texts)):
            joined[start:end] = await self._read_with(joined[start:end], "")
        for separator in (" ", ""):
            joined = await self._read_with(joined, separator)
        if joined == texts:
            self._passed.add(digest)
            return messages
        return _with_parts(messages, joined)

    async def _read_with(self, texts: list[str], separator: str) -> list[str]:
        pieces = await self._rail.read(separator.join(texts), exact=True)
        if pieces is None:
            raise Blocked
        return distributed(texts, separator, pieces)

    async def _read(self, text: str) -> str | None:
        pieces = await self._rail.read(text)
        return None if pieces is None else "".join(piece.text for piece in pieces)


class _JudgingReader(_Reader):
    """A judging rail: each message that it has not let pass before; all of them in one text where it asks a model."""

    def __init__(
        self,
        rail: Judge,
        conversation: Conversation,
        passed: Passed,
        only: Sequence[str],
        trusted: Sequence[str],
    ) -> None:
        super().__init__(rail.flow, conversation, passed, only)
        self._rail = rail
        self._trusted = trusted

    async def _rule(self, turn: Turn) -> Verdict:
        now = replace(turn, messages=self.conversation.messages)
        unread = [at for at, message in enumerate(now.messages) if self._is_unread(message, now)]
        scope = getattr(self._rail, "input_scope", "message")
        if not unread:
            return allow()
        if scope == "conversation":
            return await self._rail.judge(now.user_message, now)
        verdict = await (self._in_one(unread, now) if scope == "messages" else self._one_by_one(unread, now))
        if verdict.decision != "block":
            for at in unread:
                self._passed.add(self._digest_of(self.conversation.messages[at], now))
        return verdict

    def _is_unread(self, message: Message, turn: Turn) -> bool:
        trusted = not self._only and message.get("role") in self._trusted
        if trusted or not self._reads(message) or not everything_in(message).strip():
            return False
        return not self._passed.holds(self._digest_of(message, turn))

    def _digest_of(self, message: Message, turn: Turn) -> bytes:
        return self._digest(message, turn.context)

    async def _in_one(self, unread: Sequence[int], turn: Turn) -> Verdict:
        """One question about all of them; the text itself where there is only one."""
        texts = [everything_in(turn.messages[at]) for at in unread]
        if len(unread) > 1:
            texts = [f"{turn.messages[at].get('role')}: {text}" for at, text in zip(unread, texts, strict=True)]
        return await self._rail.judge("\n\n".join(texts), turn)

    async def _one_by_one(self, unread: Sequence[int], turn: Turn) -> Verdict:
        for at in unread:
            verdict = await self._judge_message(at, turn)
            if verdict.decision == "block":
                return verdict
        return allow()

    async def _judge_message(self, at: int, turn: Turn) -> Verdict:
        """Each part alone, and then all that the message says: joined, and as one word where a text was split."""
        message = self.conversation.messages[at]
        parts, rewritten = parts_of(message), list[str]()
        for part in parts:
            verdict = await self._rail.judge(part, turn)
            if verdict.decision == "block":
                return verdict
            rewritten.append(part if verdict.text is None else verdict.text)
        if rewritten != parts:
            message = self.conversation.messages[at] = _with_parts([message], rewritten)[0]
        for text in dict.fromkeys((everything_in(message), " ".join(rewritten), "".join(rewritten))):
            if not text or [text] == rewritten:
                continue
            verdict = await self._rail.judge(text, turn)
            if verdict.decision == "block":
                return verdict
            if verdict.decision == "rewrite" and verdict.text != text:
                raise RailError("it rewrote text that stands in several parts of a message")
        return allow()


def _reader(
    judge: Judge,
    conversation: Conversation,
    passed: Passed,
    trusted: Sequence[str],
    only: Sequence[str],
    *,
    copies: bool,
) -> _Reader:
    """``copies``: rails run at once, so each reads what the client sent."""
    own = Conversation(list(conversation.messages), conversation.params) if copies else conversation
    if isinstance(judge, IncrementalJudge):
        return _LocalReader(judge, own, passed, only)
    return _JudgingReader(judge, own, passed, only, trusted)


def everything_in(message: Message) -> str:
    """All that a message says, for a judge: its content alone where it has nothing else."""
    return "\n".join(filter(None, [text_of(message), *map(readable, other_texts(message))]))


def runs(messages: Sequence[Message]) -> list[list[int]]:
    """Which messages a provider may merge into one turn, by their positions.

    Those of one role in a row, whatever says nothing between them; some providers move the system's and developer's
    messages out of the conversation, into one text.
    """
    instructions = [at for at, message in enumerate(messages) if message.get("role") in INSTRUCTIONS]
    found: list[list[int]] = []
    for at, message in enumerate(messages):
        if message.get("role") in INSTRUCTIONS or not (parts_of(message) or other_texts(message)):
            continue
        if found and messages[found[-1][0]].get("role") == message.get("role"):
            found[-1].append(at)
        else:
            found.append([at])
    return [instructions, *found] if instructions else found


def neighbours(count: int) -> list[tuple[int, int]]:
    """Which parts are also read as one text: what stands before and behind them may hide where a word ends."""
    longest = count - 1 if count <= MOST_JOINED else MOST_NEIGHBOURS
    return [(start, start + size) for size in range(2, longest + 1) for start in range(count - size + 1)]


def distributed(texts: Sequence[str], separator: str, pieces: Sequence[Piece]) -> list[str]:
    """The texts as the pieces of their joined text leave them: what replaces a match stands where the match begins."""
    starts = list(accumulate((len(text) + len(separator) for text in texts[:-1]), initial=0))
    found: list[list[str]] = [[] for _ in texts]
    position = 0
    for piece in pieces:
        owner = bisect_right(starts, position) - 1
        end = position + piece.source
        if not piece.as_is:
            found[owner].append(piece.text)
        while piece.as_is and owner < len(texts) and starts[owner] < end:
            start = max(0, position - starts[owner])
            found[owner].append(texts[owner][start : end - starts[owner]])
            owner += 1
        position = end
    return ["".join(own) for own in found]


def _with_parts(messages: Sequence[Message], texts: Sequence[str]) -> list[Message]:
    """The messages, with these texts in the places of the parts of their contents."""
    left = list(texts)
    changed: list[Message] = []
    for message in messages:
        content = message.get("content")
        if isinstance(content, str):
            changed.append({**message, "content": left.pop(0)} if content else message)
        elif isinstance(content, Sequence):
            changed.append({**message, "content": [_part(part, left) for part in content]})
        else:
            changed.append(message)
    return changed


def _part(part: Any, left: list[str]) -> Any:
    if isinstance(part, str):
        return left.pop(0) if part else part
    if isinstance(part, Mapping) and isinstance(part.get("text"), str) and part["text"]:
        return {**part, "text": left.pop(0)}
    return part


def _refuse_fixed(text: Text) -> None:
    """A key, or the text of a file, cannot be masked where it stands: the request is stopped instead."""
    if text.fixed:
        raise Blocked
