"""`LLMRails`: guarded answers in the caller's own process, with the engine that the workers run and without Redis."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, TypeVar

from railstream.config import RailsConfig
from railstream.errors import ConfigurationError

from railstream_engine.api import chunks
from railstream_engine.api.answer import Answer, answer_of
from railstream_engine.api.checking import check_messages, chosen_stages
from railstream_engine.api.explain import ExplainInfo, Explanations
from railstream_engine.api.external import External, Item
from railstream_engine.api.handler import StreamingHandler
from railstream_engine.api.host import Host
from railstream_engine.api.options import GenerationOptions
from railstream_engine.api.output import Queue, Sheet
from railstream_engine.api.question import read_question, refuse_unstreamable
from railstream_engine.api.response import RailsResult, RailType
from railstream_engine.api.run import Run
from railstream_engine.api.watched_models import checked_model
from railstream_engine.generation.checks import Stage
from railstream_engine.generation.generation import Outcome
from railstream_engine.providers.port import ChatModel

Messages = Sequence[Mapping[str, Any]]
Options = GenerationOptions | Mapping[str, Any] | None
Start = Callable[[ExplainInfo], Run]
T = TypeVar("T")


class LLMRails:
    """Rails around a model. Tasks may share one; ``async with`` closes its connections at the end.

    Args:
        config: The rails config.
        llm: A `ChatModel` that answers in place of the config's main model. It stays the caller's to close.
        verbose: Accepted as in NeMo Guardrails. Calls are told to OpenTelemetry and by `explain`, not printed.

    Raises:
        ConfigurationError: ``config`` is no config, or ``llm`` no model.
    """

    def __init__(self, config: RailsConfig, llm: ChatModel | None = None, verbose: bool = False) -> None:
        if not isinstance(config, RailsConfig):
            raise ConfigurationError(f"config must be a RailsConfig, got {type(config).__name__}")
        self.config = config
        self.verbose = verbose
        self._host = Host(config, None if llm is None else checked_model(llm))
        self._explanations = Explanations()

    def stream_async(
        self,
        prompt: str | None = None,
        messages: Messages | None = None,
        options: Options = None,
        state: object = None,
        include_metadata: bool | None = False,
        generator: AsyncIterator[Item] | None = None,
        include_generation_metadata: bool | None = None,
    ) -> AsyncGenerator[Any, None]:
        """The answer as it is released: strings, or with ``include_metadata`` dicts.

        A string is one released delta. An answer that a rail stops, or that fails, ends with one string more: a JSON
        object with ``error``, or the refusal. Leaving the iterator early closes the connection to the model.

        Args:
            generator: Gives the text in place of a model; output rails still check it, and what it raises is raised.

        Raises:
            InvalidRequestError: what was given is wrong.
            StreamingNotSupportedError: there are output rails, and ``rails.output.streaming.enabled`` is not true.
        """
        if include_generation_metadata is not None:
            warnings.warn(
                "include_generation_metadata is deprecated, use include_metadata instead.",
                DeprecationWarning,
                stacklevel=2,
            )
            include_metadata = include_generation_metadata
        external = None if generator is None else External(generator)
        question = read_question(prompt, messages, options, state, may_be_empty=external is not None)
        refuse_unstreamable(self.config, question.options)
        if external is not None and not self.config.rails.output.flows:
            return chunks.passed_on(external, include_metadata=bool(include_metadata))
        start = self._host.starter(question, external=external, streaming=True)
        return self._shown(start, chunks.dicts) if include_metadata else self._shown(start, chunks.strings)

    def stream_events_async(
        self,
        prompt: str | None = None,
        messages: Messages | None = None,
        options: Options = None,
        streaming: bool = True,
    ) -> AsyncGenerator[str | Outcome, None]:
        """Released texts, and as the last element a `Finished`, `Blocked` or `Failed`: never a text that means one.

        Args:
            streaming: Without it nothing is released before its check, and every config can be asked.

        Raises:
            InvalidRequestError, StreamingNotSupportedError: as `stream_async`.
        """
        question = read_question(prompt, messages, options)
        if streaming:
            refuse_unstreamable(self.config, question.options)
        return self._shown(self._host.starter(question, streaming=streaming), Run.pieces)

    async def generate_async(
        self,
        prompt: str | None = None,
        messages: Messages | None = None,
        options: Options = None,
        state: object = None,
        streaming_handler: StreamingHandler | None = None,
    ) -> Answer:
        """The whole answer: a message, the text for a prompt, a `GenerationResponse` when options are given.

        An answer that a rail stops is the refusal. ``streaming_handler`` is deprecated: it gets what was checked,
        and nothing else.

        Raises:
            InvalidRequestError: what was given is wrong.
            CallError: the model failed.
        """
        question = read_question(prompt, messages, options, state)
        if streaming_handler is None:
            return await _whole(self._host.starter(question), self._explanations.begin())
        warnings.warn("streaming_handler is deprecated, use stream_async() instead.", DeprecationWarning, stacklevel=2)
        start = self._host.starter(question, streaming=self.config.rails.output.streaming.enabled)
        return await _into(streaming_handler, start(self._explanations.begin()))

    def generate(
        self,
        prompt: str | None = None,
        messages: Messages | None = None,
        options: Options = None,
        state: object = None,
    ) -> Answer:
        """`generate_async` for code without an event loop. Raises ``RuntimeError`` where one runs."""
        _refuse_running_loop("generate")
        question = read_question(prompt, messages, options, state)
        return self._run(_whole(self._host.starter(question), self._explanations.begin()))

    async def check_async(self, messages: Messages, rail_types: Sequence[RailType | str] | None = None) -> RailsResult:
        """Run rails without generating: input rails on the last user message, output rails on the last assistant's.

        Args:
            rail_types: ``input``, ``output`` or both. Not given: those that there are messages for.
        """
        start, stages = self._check(messages, rail_types)
        return await check_messages(start(self._explanations.begin()), stages)

    def check(self, messages: Messages, rail_types: Sequence[RailType | str] | None = None) -> RailsResult:
        """`check_async` for code without an event loop. Raises ``RuntimeError`` where one runs."""
        _refuse_running_loop("check")
        start, stages = self._check(messages, rail_types)
        info = self._explanations.begin()

        async def check() -> RailsResult:
            return await check_messages(start(info), stages)

        return self._run(check())

    def explain(self) -> ExplainInfo:
        """The LLM calls of this task's last answer by this instance."""
        return self._explanations.current()

    def register_action(self, action: Callable[..., Any], name: str | None = None) -> LLMRails:
        """A custom action, beside or in place of those in `actions.py`. Flows call it by ``name``, or by its own."""
        self._host.register(name or action.__name__, action)
        return self

    async def aclose(self) -> None:
        """Close the connections that were opened from this event loop."""
        await self._host.aclose()

    async def __aenter__(self) -> LLMRails:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _shown(self, start: Start, show: Callable[[Run], AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
        """Starts at the first step, in the task that reads."""
        async with aclosing(show(start(self._explanations.begin()))) as shown:
            async for element in shown:
                yield element

    def _check(self, messages: Messages, rail_types: Sequence[RailType | str] | None) -> tuple[Start, set[Stage]]:
        question = read_question(None, messages, None)
        return self._host.starter(question, rails_only=True), chosen_stages(question.messages, rail_types)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """In an event loop of its own, whose connections end with it."""

        async def run() -> T:
            async with self:
                return await work

        return asyncio.run(run())


async def _whole(start: Start, info: ExplainInfo) -> Answer:
    sheet, run = Sheet(), start(info)
    return answer_of(run, sheet, await run.generate(sheet))


async def _into(handler: StreamingHandler, run: Run) -> Answer:
    """The handler always ends, whatever happens here."""
    queue = Queue()
    outcome: Outcome | None = None
    try:
        async with aclosing(run.pieces(queue)) as pieces:
            async for piece in pieces:
                if isinstance(piece, str):
                    await handler.push_chunk(piece)
                else:
                    outcome = piece
        assert outcome is not None
        await chunks.hand_over(run, outcome, handler)
        return answer_of(run, queue, outcome)
    finally:
        await handler.finish()


def _refuse_running_loop(name: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(f"{name}() cannot be called where an event loop runs; use `await {name}_async(...)`")
