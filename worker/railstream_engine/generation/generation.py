"""One guarded generation: input rails, the call, output guards, into a sink, to one outcome.

It knows neither Redis nor jobs: the worker's attempts and the in-process API run the same one. Leaving it, by its
end, by an error or by being cancelled, closes the upstream and every guard.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from railstream.config import RailsConfig
from railstream.errors import CallError, RailstreamError
from railstream.events import Blocked, Failed, Finished
from railstream.extra_fields import FINGERPRINT, closed

from railstream_engine.generation.calls import Caller
from railstream_engine.generation.emission import Emission
from railstream_engine.generation.roles import ROLE, WithRole
from railstream_engine.generation.sink import Gate, Room
from railstream_engine.generation.structured import asks_for_structure
from railstream_engine.generation.tool_calls import declared_tools
from railstream_engine.providers.port import Call, ChatModel, Delta, Extra, Finish, Part, Runs
from railstream_engine.rails.port import Guards, Turn, Violation

Outcome = Finished | Blocked | Failed
FINISH_REASONS: Final = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
"""OpenAI's own: https://platform.openai.com/docs/api-reference/chat/streaming"""
_IDENTIFIER: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")
Messages = Sequence[Mapping[str, Any]]


class Rails(Protocol):
    """The engine, as a generation sees it."""

    async def check_input(self, turn: Turn) -> tuple[Messages, Violation | None]: ...

    def guards(self, turn: Turn, block: Callable[[Violation], None], *, streaming: bool = True) -> Guards: ...


@dataclass(slots=True)
class Generation:
    """``released`` is what earlier attempts let out: the model is asked to go on from there."""

    config: RailsConfig
    rails: Rails
    model: ChatModel
    turn: Turn
    params: Mapping[str, Any]
    caller: Caller
    sink: Room
    streaming: bool = True
    released: str = ""
    runs: Runs | None = None
    """Where the provider's run of this answer is kept, if another worker may take it over."""
    source: AsyncGenerator[Sequence[Part], None] | None = None
    """Parts from elsewhere, in place of a call: an application's own generator."""
    violation: Violation | None = None
    failure: RailstreamError | None = None
    """What `give_up` was called with."""
    finish_reasons: dict[int, str] = field(default_factory=dict)
    _guards: Guards = field(init=False)
    _choices: int = field(init=False)
    _emissions: dict[int, Emission] = field(default_factory=dict)
    _spoken: set[int] = field(default_factory=set)
    """Choices that have had a chunk."""
    _extra: dict[int | None, dict[str, Any]] = field(default_factory=dict)
    """By choice; of the answer under ``None``."""
    _waiting: asyncio.Task[Any] | None = None
    """The task that reads, while it waits for the provider: only then may a block cancel it."""
    _cut: bool = False
    _cancelled_reading: bool = False

    async def run(self) -> Outcome:
        """To the outcome; what is expected to fail is one. ``CancelledError`` passes through."""
        self.turn.params = self.params
        given = self.params.get("n")
        self._choices = given if isinstance(given, int) and given > 0 else 1
        try:
            self._guards = self.rails.guards(self.turn, self._on_block, streaming=self.streaming)
        except RailstreamError as error:
            return self.failed(error)
        self.caller.guarded = self._guards.guarded
        try:
            return await self._outcome()
        except RailstreamError as error:
            return self.failed(error)
        finally:
            self._guards.close()

    async def _outcome(self) -> Outcome:
        try:
            if self.source is not None:
                await self._generate(self.turn.messages)
            elif self.config.rails.input.speculative_generation and not self._reads_again:
                await self._speculate()
            else:
                messages, violation = await self.rails.check_input(self.turn)
                if violation is not None:
                    return self._block(violation)
                await self._generate(messages)
        finally:
            for emission in self._emissions.values():
                if self.violation is not None:
                    emission.flush()
                await emission.aclose()
            self._emissions.clear()
        if self.failure is not None:
            return self.failed(self.failure)
        if self.violation is not None:
            return self._block(self.violation)
        return await self._finish()

    @property
    def _reads_again(self) -> bool:
        """Whether an earlier attempt has begun the answer: then it is known for which messages only after the rails."""
        return self.runs is not None and self.runs.again is not None

    def give_up(self, error: RailstreamError) -> None:
        """Cut the call: the outcome is this failure. For a sink that cannot take what is generated."""
        self.failure = error
        self._cut_call()

    async def _speculate(self) -> None:
        """Generate while the input rails run; nothing leaves before they have passed, and a block cuts the call."""
        gate = self.sink = Gate(self.sink)
        check = asyncio.ensure_future(self.rails.check_input(self.turn))

        decided = False

        def decide(done: asyncio.Future[tuple[Messages, Violation | None]]) -> None:
            nonlocal decided
            if decided or done.cancelled():
                return
            decided = True
            if done.exception() is None and done.result()[1] is None and self._is_unchanged(done.result()[0]):
                return gate.open()
            self._cut_call()

        check.add_done_callback(decide)
        try:
            await self._generate(self.turn.messages)
            messages, violation = await check
            decide(check)  # its callback comes after this line where the check ended just before: too late to cut
        finally:
            check.cancel()
        if violation is not None:
            self.violation = violation
        elif not gate.is_open:
            # The rails rewrote what the model was asked: what it said so far answers another question.
            gate.drop()
            gate.open()
            self._cut, self.violation = False, None
            for emission in self._emissions.values():
                await emission.aclose()
            self._emissions.clear()
            self.finish_reasons.clear()
            self._extra.clear()
            await self._generate(messages)

    def _is_unchanged(self, messages: Messages) -> bool:
        return messages == self.turn.messages and self.turn.params == self.params

    async def _generate(self, messages: Messages) -> None:
        task = asyncio.current_task()
        assert task is not None
        stream = self.source if self.source is not None else self.caller.stream(self.model, self._call(messages))
        try:
            async with aclosing(stream):
                await self._read(stream, task)
        except asyncio.CancelledError:
            # A guard's check blocked while we waited for the next token: an outcome, unless somebody cancelled too.
            if not self._cancelled_reading or task.uncancel() > 0:
                raise
        if self.violation is None and not self._cut:
            for emission in self._emissions.values():
                await emission.finish()

    async def _read(self, stream: AsyncGenerator[Sequence[Part], None], task: asyncio.Task[Any]) -> None:
        if self._cut:
            return
        try:
            self._waiting = task
            async for parts in stream:
                self._waiting = None
                self.take(parts)
                if not self._cut:
                    await self.sink.room()
                if self._cut:
                    return
                self._waiting = task
        finally:
            self._waiting = None

    def _call(self, messages: Messages) -> Call:
        params = dict(self.turn.params)
        if self.released:
            messages = [*messages, {"role": "assistant", "content": self.released}]
        return Call(self.model.name, messages, params, taker=self, runs=self.runs)

    def ready(self) -> bool:
        return self._waiting is not None and not self._cut and self.sink.has_room()

    def take(self, parts: Sequence[Part]) -> None:
        try:
            for part in parts:
                if type(part) is Delta:
                    emission = self._emissions.get(part.index)
                    if emission is None:
                        emission = self._emissions[part.index] = self._emission(part.index)
                    emission.push(part)
                elif type(part) is Finish:
                    self._ended(part)
                elif type(part) is Extra:
                    self._extra.setdefault(part.index, {}).update(part.fields)
                if self._cut:
                    return
        except CallError as error:  # the event loop hands over parts, and has nobody to tell
            self.give_up(error)

    def _ended(self, finish: Finish) -> None:
        self._check_index(finish.index)
        self.finish_reasons[finish.index] = finish.reason
        if finish.index in self._emissions:
            self._emissions[finish.index].end_calls()

    def _emission(self, index: int) -> Emission:
        self._check_index(index)
        self._spoken.add(index)
        return Emission(
            index,
            WithRole(self.sink) if index else self.sink,
            self._guards,
            primed=self.released if index == 0 else "",
            declared=declared_tools(self.params),
            seed=self.caller.request_id,
        )

    def _check_index(self, index: int) -> None:
        """A provider that numbers a choice which nobody asked for would make a reader wait for all those before it."""
        if not 0 <= index < self._choices:
            raise CallError(f"the provider sent choice {index} of {self._choices} that were asked for", code="provider")

    def _on_block(self, violation: Violation) -> None:
        if self.violation is not None:
            return
        self.violation = violation
        self._cut_call()

    def _cut_call(self) -> None:
        """Stop reading the provider. Where the reader is not waiting for it, it looks by itself."""
        if self._waiting is not None:
            self._cancelled_reading = True
            self._waiting.cancel()
            self._waiting = None
        self._cut = True

    @property
    def usage(self) -> dict[str, Any] | None:
        """OpenAI's usage object of the answer, if the provider sent one."""
        return self.caller.usage

    async def _finish(self) -> Finished:
        last = max(self.finish_reasons, default=0)
        for index in range(1, last + 1):
            if index not in self._spoken:
                self.sink.chunk(ROLE, b'{"index":%d}' % index)
        reasons = [await self._reason(self.finish_reasons.get(index, "stop")) for index in range(last + 1)]
        extra = await self._kept(self._extra.get(None, {}))
        of_choices = [await self._kept(self._extra.get(index, {})) for index in range(last + 1)]
        return Finished(
            finish_reasons=tuple(reasons),
            usage=self.usage,
            extra=extra,
            choice_extra=tuple(of_choices) if any(of_choices) else (),
        )

    async def _kept(self, fields: dict[str, Any]) -> dict[str, Any]:
        """What may leave of what the provider has said beside the delta."""
        if not self._guards.guarded:
            return fields
        kept, mark = closed(fields), fields.get("system_fingerprint")
        if isinstance(mark, str) and FINGERPRINT.fullmatch(mark) and await self._guards.lets_pass(mark):
            kept["system_fingerprint"] = mark
        return kept

    async def _reason(self, given: str) -> str:
        """A finish reason as it may leave: OpenAI's words, or a short identifier that local rails have read."""
        if given in FINISH_REASONS or not self._guards.guarded:
            return given
        return given if _IDENTIFIER.fullmatch(given) and await self._guards.lets_pass(given) else "error"

    def _block(self, violation: Violation) -> Blocked:
        return Blocked(
            flow=violation.flow,
            stage=violation.stage,
            error=violation.envelope(),
            form=self._form(violation),
            refusal=violation.refusal,
            usage=self.usage,
            structured=asks_for_structure(self.params),
            choices=self._choices,
        )

    def _form(self, violation: Violation) -> str:
        """An input block is a refusal unless the config says otherwise; an output block an error."""
        if violation.code == "rail_execution_failure":
            return "error"
        configured = self.config.railstream.on_violation
        if configured is not None:
            return configured
        if violation.stage == "input" and not self.config.enable_rails_exceptions:
            return "refusal"
        return "error"

    def failed(self, error: RailstreamError) -> Failed:
        """The outcome of this error."""
        call = error if isinstance(error, CallError) else None
        return Failed(
            error=self._envelope(error),
            status=error.status,
            retryable=error.retryable,
            retry_after=None if call is None else call.retry_after,
            usage=self.usage,
            upstream_request_id="" if call is None or self.caller.guarded else call.provider_request_id or "",
        )

    def _envelope(self, error: RailstreamError) -> dict[str, Any]:
        """The provider's own words are for unguarded requests alone: they may quote what no rail has read."""
        return error.guarded_envelope() if isinstance(error, CallError) and self.caller.guarded else error.envelope()
