"""What local and judging rails read of a conversation: two kinds of readers, each for one rail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from railstream.errors import RailError
from railstream.message_keys import Path
from railstream.messages import Text, other_texts, parts_of, replaced, text_of, texts_in

from railstream_engine.rails.input.effort import Effort
from railstream_engine.rails.input.joining import read_joined
from railstream_engine.rails.input.passed import Passed, digest_of
from railstream_engine.rails.input.runs import Leaf, Run, runs_in, value_at
from railstream_engine.rails.judges.judge_group import Judge
from railstream_engine.rails.judges.local_judges import IncrementalJudge
from railstream_engine.rails.judges.verdict import Verdict, allow, block, rewrite
from railstream_engine.rails.matching.hidden import has_hidden, revealed
from railstream_engine.rails.port import Turn
from railstream_engine.rails.tools.tool_texts import Blocked, read_arguments, readable

Message = Mapping[str, Any]
SEPARATORS: Final = (" ", "")
_MOST_ON_LOOP: Final = 128
"""Texts of a conversation up to which it is taken apart on the event loop: a millisecond or two."""
Result = TypeVar("Result")


@dataclass(slots=True)
class Conversation:
    """What goes to the provider, as the rails so far have left it."""

    messages: list[Message]
    params: Mapping[str, Any]
    count: int
    """How many texts it has."""


class Reader:
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

    async def _aside(self, function: Callable[[], Result]) -> Result:
        """Run what goes through a conversation without a pause: of a large one in a thread."""
        return function() if self.conversation.count <= _MOST_ON_LOOP else await asyncio.to_thread(function)

    def _reads(self, message: Message) -> bool:
        return not self._only or message.get("role") in self._only

    def _digest(self, *values: Any) -> bytes:
        return digest_of(str(self.flow), *values)


class LocalReader(Reader):
    """A local rail: each text alone, then those that a model may read as one (`railstream_engine.rails.input.runs`)."""

    def __init__(self, rail: IncrementalJudge, conversation: Conversation, passed: Passed, only: Sequence[str]) -> None:
        super().__init__(rail.flow, conversation, passed, only)
        self._rail = rail
        self._effort = Effort()

    async def _rule(self, turn: Turn) -> Verdict:
        conversation = self.conversation
        try:
            for at, message in enumerate(conversation.messages):
                if self._reads(message):
                    conversation.messages[at] = await self._read_value(message)
            if not self._only:
                conversation.params = await self._read_value(conversation.params)
            for run in await self._aside(lambda: runs_in(conversation.messages, conversation.params)):
                if self._reads_run(run):
                    await self._read_run(run)
        except Blocked:
            return block()
        return allow()

    def _reads_run(self, run: Run) -> bool:
        if self._rail.finds_forms and not run.is_speech:
            return False
        messages = self.conversation.messages
        return not self._only or all(at < len(messages) and self._reads(messages[at]) for at in run.messages)

    async def _read_value(self, value: Mapping[str, Any]) -> Mapping[str, Any]:
        digest = await self._aside(lambda: self._digest("value", value))
        if self._passed.holds(digest):
            return value
        rewritten: dict[Path, str] = {}
        for text in await self._aside(lambda: texts_in(value)):
            if (read := await read_arguments(text.text, self._read)) != text.text:
                _refuse_fixed(text)
                rewritten[text.path] = read
        if rewritten:
            return {**await self._aside(lambda: replaced(value, rewritten))}
        self._passed.add(digest)
        return value

    async def _read_run(self, run: Run) -> None:
        everything = [*self.conversation.messages, self.conversation.params]
        texts, digest = await self._aside(lambda: self._texts_of(run, everything))
        if self._passed.holds(digest):
            return
        read = await read_joined(self._rail, texts, self._effort, is_speech=run.is_speech)
        rewritten: dict[Path, str] = {}
        for leaf, before, after in zip(run.leaves, texts, read, strict=True):
            if after != before:
                _refuse_fixed(leaf)
                rewritten[leaf.path] = after
        if rewritten:
            now = await self._aside(lambda: replaced(everything, rewritten))
            *self.conversation.messages, self.conversation.params = now
        else:
            self._passed.add(digest)

    def _texts_of(self, run: Run, everything: Sequence[Any]) -> tuple[list[str], bytes]:
        """The texts of a run as the rail has left them so far, and their digest."""
        texts = [leaf.text if leaf.fixed else str(value_at(everything, leaf.path)) for leaf in run.leaves]
        return texts, self._digest("run", run.is_speech, texts)

    async def _read(self, text: str) -> str | None:
        await self._effort.spend(text)
        pieces = await self._rail.read(text)
        return None if pieces is None else "".join(piece.text for piece in pieces)


class JudgingReader(Reader):
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
        unread = await self._aside(lambda: self._unread(now))
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

    def _unread(self, turn: Turn) -> list[int]:
        return [at for at, message in enumerate(turn.messages) if self._is_unread(message, turn)]

    def _is_unread(self, message: Message, turn: Turn) -> bool:
        if not self._may_read(message) or not everything_in(message).strip():
            return False
        return not self._passed.holds(self._digest_of(message, turn))

    def _may_read(self, message: Message) -> bool:
        trusted = not self._only and message.get("role") in self._trusted
        return not trusted and self._reads(message)

    def _digest_of(self, message: Message, turn: Turn) -> bytes:
        return self._digest(message, turn.context)

    async def _in_one(self, unread: Sequence[int], turn: Turn) -> Verdict:
        """One question about all of them; the text itself where there is only one."""
        texts = [everything_in(turn.messages[at]) for at in unread]
        if len(unread) > 1:
            texts = [f"{turn.messages[at].get('role')}: {text}" for at, text in zip(unread, texts, strict=True)]
        return await self._rail.judge("\n\n".join(texts), turn)

    async def _one_by_one(self, unread: Sequence[int], turn: Turn) -> Verdict:
        read: set[str] = set()
        for at in unread:
            verdict = await self._judge_parts(at, turn, read)
            if verdict.decision == "block":
                return verdict
        messages = self.conversation.messages
        whole = [everything_in(messages[at]) for at in unread]
        joined = await self._aside(lambda: self._joined(unread))
        for text in dict.fromkeys((*whole, *joined)):
            if text not in read and (verdict := await self._judge_joined(text, turn)).decision == "block":
                return verdict
        return allow()

    async def _judge_parts(self, at: int, turn: Turn, read: set[str]) -> Verdict:
        """Each part of a message alone, rewritten where it stands. ``read`` takes what was read."""
        message = self.conversation.messages[at]
        rewritten: dict[Path, str] = {}
        for path, part in _content_of(message):
            verdict = await self._rail.judge(part, turn)
            if verdict.decision == "block":
                return verdict
            text = part if verdict.text is None else verdict.text
            read.add(text)
            if text != part:
                rewritten[path] = text
        if rewritten:
            self.conversation.messages[at] = {**replaced(message, rewritten)}
        return allow()

    def _joined(self, unread: Sequence[int]) -> list[str]:
        """What several texts say as one, where one of them is unread."""
        messages = self.conversation.messages
        found = []
        for run in runs_in(messages, {}):
            if not run.is_speech or run.messages.isdisjoint(unread):
                continue
            if all(self._may_read(messages[at]) for at in run.messages):
                found += [separator.join(leaf.text for leaf in run.leaves) for separator in SEPARATORS]
        return found

    async def _judge_joined(self, text: str, turn: Turn) -> Verdict:
        verdict = await self._rail.judge(text, turn)
        if verdict.decision == "rewrite" and verdict.text != text:
            raise RailError("it rewrote text that stands in several parts of a message")
        return verdict


def everything_in(message: Message) -> str:
    """All that a message says, for a judge: its content alone where it has nothing else.

    Content with letters that nobody sees is followed by itself with those made plain, as the model will read it.
    """
    text = text_of(message)
    content = [text, revealed(text)] if has_hidden(text) else [text]
    return "\n".join(filter(None, [*content, *map(readable, other_texts(message))]))


def _content_of(message: Message) -> list[tuple[Path, str]]:
    """The parts of a message's content, as `parts_of` gives them, with their places."""
    content = message.get("content")
    if isinstance(content, str):
        return [(("content",), content)] if content else []
    found: list[tuple[Path, str]] = []
    for at, part in enumerate(content if isinstance(content, Sequence) else ()):
        texts = parts_of({"content": [part]})
        place = ("content", at) if isinstance(part, str) else ("content", at, "text")
        found += [(place, text) for text in texts]
    return found


def _refuse_fixed(text: Text | Leaf) -> None:
    """A key, or the text of a file, cannot be masked where it stands: the request is stopped instead."""
    if text.fixed:
        raise Blocked
