"""The LLM calls of one attempt: numbered, recorded, and each with exactly one usage record, however it ends.

A call begins when it is made: what it waits for its model's limits lies before it. Pauses between retries lie in it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
from opentelemetry.context import Context
from railstream.events import Usage
from railstream.telemetry.calls import CallRecorder
from railstream.telemetry.recorded_call import RecordedCall

from railstream_engine.generation.left_call import LeavableStream, Leave, LeftCall
from railstream_engine.generation.usage_object import usage_object
from railstream_engine.providers.fallbacks import Fallbacks, first_of
from railstream_engine.providers.limited import TakesTurns
from railstream_engine.providers.port import Call, ChatModel, Delta, Finish, Part, ResponseInfo, Taker, TokenCount

Record = Callable[[Usage], None]


@dataclass(frozen=True, slots=True)
class CallLog:
    """One ended call, as a generation log shows it. ``began`` in unix seconds."""

    usage: Usage
    began: float

    def entry(self) -> dict[str, Any]:
        """NeMo's ``llm_calls`` entry; token figures are ``None`` when the provider sent none."""
        usage = self.usage
        known = usage.input_tokens is not None and usage.output_tokens is not None
        return {
            "task": usage.task,
            "duration": usage.seconds,
            "total_tokens": (usage.input_tokens or 0) + (usage.output_tokens or 0) if known else None,
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "started_at": self.began,
            "finished_at": self.began + usage.seconds,
            "id": usage.call,
            "llm_model_name": usage.model,
            "llm_provider_name": usage.provider,
        }


class _Seeing:
    """A taker whose parts are recorded before it gets them."""

    __slots__ = ("_see", "_take", "ready")

    def __init__(self, taker: Taker, see: Callable[[Sequence[Part]], None]) -> None:
        self.ready = taker.ready
        self._take = taker.take
        self._see = see

    def take(self, parts: Sequence[Part]) -> None:
        self._see(parts)
        self._take(parts)


class Caller:
    """Makes calls to models by their type in the config; ``record`` gets one usage record per call."""

    def __init__(
        self,
        request_id: str,
        attempt: int | str,
        models: Mapping[str, ChatModel],
        record: Record,
        recorder: CallRecorder,
        context: Context | None = None,
        leave: Leave | None = None,
    ) -> None:
        """``context``: parent of the calls' spans. ``leave``: takes calls that are left in the middle, to read on."""
        self.request_id = request_id
        self._attempt = attempt
        self._models = models
        self._record = record
        self._recorder = recorder
        self._context = context
        self._leave = leave
        self._calls = 0
        self.log: list[CallLog] = []
        self.tokens: TokenCount | None = None
        """Of the answer itself, as the provider last told."""
        self.response = ResponseInfo()
        self.guarded = False
        """Whether rails read the output: then a usage object is cut down to what it is known for."""

    @property
    def usage(self) -> dict[str, Any] | None:
        """OpenAI's usage object of the answer, if the provider sent one."""
        if self.tokens is None:
            return None
        return usage_object(self.tokens, guarded=self.guarded)

    def stream(self, model: ChatModel, call: Call) -> AsyncGenerator[Sequence[Part], None]:
        """The parts of one call, recorded; of a model with fallbacks, each try is a call of its own.

        A run that an earlier attempt has begun is the earlier attempt's call: it is read again by that name.

        Consume it under ``aclosing``: closing it closes the upstream.
        """
        again = call.runs.again if call.runs is not None else None
        if again is not None:
            return self._stream(
                again.model, msgspec.structs.replace(call, model=again.model.name), AsyncExitStack(), again.call
            )
        return (
            first_of(model.models, call, self._in_turn) if isinstance(model, Fallbacks) else self._in_turn(model, call)
        )

    def _in_turn(self, model: ChatModel, call: Call) -> AsyncGenerator[Sequence[Part], None]:
        if isinstance(model, TakesTurns):
            return self._after_waiting(model, call)
        return self._stream(model, call, AsyncExitStack())

    async def _after_waiting(self, model: TakesTurns, call: Call) -> AsyncGenerator[Sequence[Part], None]:
        async with AsyncExitStack() as turn:
            ready = await turn.enter_async_context(model.turn(call))
            async with aclosing(self._stream(ready, call, turn)) as stream:
                async for parts in stream:
                    yield parts

    async def _stream(
        self, model: ChatModel, call: Call, turn: AsyncExitStack, name: str = ""
    ) -> AsyncGenerator[Sequence[Part], None]:
        if call.task == "general":
            self.tokens, self.response = None, ResponseInfo()
        self._calls += 0 if name else 1
        call_id = name or f"{self._attempt}.{self._calls}"
        began = time.time()
        recorded = self._recorder.start(
            model=model.name,
            provider=model.provider,
            task=call.task,
            call=call_id,
            address=model.address,
            port=model.port,
            params=call.params,
            messages=call.messages,
            parent_context=self._context,
        )
        reasons: dict[int, str] = {}
        see = partial(self._see, recorded, call.task, reasons)
        traced = Call(
            call.model,
            call.messages,
            call.params,
            call.task,
            request_id=f"{self.request_id}.{call_id}",
            traceparent=recorded.traceparent,
            taker=None if call.taker is None else _Seeing(call.taker, see),
            runs=call.runs,
        )
        upstream = model.stream(traced)
        # A run is cancelled at its provider where nobody goes on with it: there would be nothing to read on.
        leavable = None if self._leave is None or call.runs is not None else LeavableStream(upstream)
        try:
            with recorded:
                async with aclosing(leavable or upstream) as stream:
                    async for parts in stream:
                        see(parts)
                        yield parts
                recorded.finish([reason for _, reason in sorted(reasons.items())])
        finally:
            usage = recorded.usage()
            self.log.append(CallLog(usage, began))
            kept = call.runs.recorded(usage) if call.runs is not None else usage
            if kept is not None:
                self._record(kept)
            if leavable is not None and leavable.is_open:
                left = LeftCall(leavable, recorded, usage, turn.pop_all())
                if self._leave is None or not self._leave(left):
                    await left.close()

    def _see(self, recorded: RecordedCall, task: str, reasons: dict[int, str], parts: Sequence[Part]) -> None:
        chunks = characters = 0
        for part in parts:
            if type(part) is Delta:
                chunks += 1
                characters += part.size
            elif isinstance(part, Finish):
                reasons[part.index] = part.reason
            elif isinstance(part, TokenCount):
                recorded.tokens(part)
                if task == "general":
                    self.tokens = part
            elif isinstance(part, ResponseInfo):
                recorded.response(part.id, part.model)
                if task == "general":
                    self.response = part
        if chunks:
            recorded.chunks(chunks, characters)
        if recorded.captures_content:
            for part in parts:
                if isinstance(part, Delta):
                    recorded.text(part.content)

    async def ask(
        self, model_type: str, messages: Sequence[Mapping[str, Any]], *, task: str, params: Mapping[str, Any]
    ) -> str:
        """The whole text of a rail's call. Raises ``CallError``."""
        model = self._models.get(model_type) or self._models["main"]
        texts: list[str] = []
        async with aclosing(self.stream(model, Call(model.name, messages, params, task))) as stream:
            async for parts in stream:
                texts.extend(part.content for part in parts if isinstance(part, Delta))
        return "".join(texts)
