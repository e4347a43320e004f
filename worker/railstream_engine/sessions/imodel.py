"""A model that a session talks to. Its key is in no repr and in no serialisation.

What it returns does not depend on a flag: `stream` gives chunks, `complete` a whole answer, and `invoke` an
`Invocation` that is either iterated or awaited.
"""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterable, Mapping
from contextlib import aclosing
from typing import Any, Final
from weakref import WeakKeyDictionary

from opentelemetry import context as otel_context
from railstream.config import Model
from railstream.config.engines import engine_of
from railstream.config.models import SAMPLING, ModelOptions
from railstream.config.serving import Deadlines
from railstream.errors import CallError, ConfigurationError, InvalidRequestError
from railstream.ids import new_request_id
from railstream.telemetry.process import of_program

from railstream_engine.generation.calls import Caller
from railstream_engine.models import build
from railstream_engine.providers.port import Call, ChatModel, Delta, Finish
from railstream_engine.sessions.chunks import Chunk, Kind, PartialAnswerError, Response
from railstream_engine.sessions.messages import Message

ENDPOINTS: Final = {"openai": "chat/completions", "anthropic": "messages"}
"""By wire."""
OLDER_ANTHROPIC: Final = "2023-06-01"
"""The version of Anthropic's API that still takes sampling options."""
OPTIONS: Final = frozenset(
    {
        "max_tokens", "max_completion_tokens", "top_p", "top_k", "stop", "seed", "presence_penalty",
        "frequency_penalty", "logit_bias", "response_format", "tools", "tool_choice", "parallel_tool_calls",
        "reasoning_effort", "verbosity", "service_tier", "user", "metadata", "thinking", "temperature",
    }
)  # fmt: skip
"""Request options that a model or a call may be given."""

ChatMessages = Iterable[Message | Mapping[str, Any]]


class iModel:  # the name that the recipe's programs import
    """One model of one provider.

    Args:
        provider: an engine of a rails config, such as ``openai``, ``anthropic``, ``groq``, ``vllm``, ``scripted``;
            or any name, with ``base_url``, for another OpenAI-compatible endpoint.
        stream: whether an `invoke` is iterated; one that is not is awaited.
        name: what a session calls it by; the model's own name unless given.
        options: request options of every call. Unknown ones are refused.

    Raises:
        ConfigurationError: the provider's API key is not set, or an option is unknown.
    """

    def __init__(
        self,
        provider: str,
        model: str,
        *,
        endpoint: str | None = None,
        temperature: float | None = None,
        stream: bool = False,
        name: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        max_retries: int = 2,
        parameters: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """``parameters``: those of a rails config's model, for an engine that has some of its own."""
        given = options if temperature is None else {"temperature": temperature, **options}
        refuse_unknown(given)
        self.provider = provider
        self.model = model
        self.stream_by_default = stream
        self.name = name or model
        self.options = given
        self._entry = _entry(provider, model, given, base_url, api_key, max_retries, parameters or {})
        self.endpoint = _endpoint(self._entry, endpoint)
        _require_key(self._entry)
        self._telemetry = of_program([model])
        # Connections belong to the event loop that opened them, and a program may run several, one after another.
        self._serving: WeakKeyDictionary[asyncio.AbstractEventLoop, ChatModel] = WeakKeyDictionary()

    def invoke(self, messages: ChatMessages, **options: Any) -> Invocation:
        """Iterate it where the model has ``stream=True``, else await it. Nothing is sent before that."""
        refuse_unknown(options)
        return Invocation(self, list(messages), options)

    def stream(self, messages: ChatMessages, **options: Any) -> aclosing[AsyncGenerator[Chunk, None]]:
        """``async with model.stream(messages) as chunks``: leaving the block closes the upstream.

        Raises:
            PartialAnswerError: the call failed; it has the text so far.
        """
        refuse_unknown(options)
        return aclosing(self._chunks(list(messages), options))

    async def complete(self, messages: ChatMessages, **options: Any) -> Response:
        """The whole answer. Raises ``PartialAnswerError``: the call failed; it has the text so far."""
        raw: list[Any] = []
        texts: list[str] = []
        metadata: Mapping[str, Any] = {}
        async with self.stream(messages, **options) as chunks:
            async for chunk in chunks:
                texts.append(chunk.data)
                if chunk.kind == "end":
                    metadata = chunk.metadata
                else:
                    raw.append(chunk.raw_response)
        return Response("".join(texts), metadata, raw)

    async def _chunks(
        self, messages: list[Message | Mapping[str, Any]], options: Mapping[str, Any]
    ) -> AsyncGenerator[Chunk, None]:
        model = self._of_this_loop()
        caller = Caller(
            new_request_id(), 1, {"main": model}, lambda _: None, self._telemetry.calls, otel_context.get_current()
        )
        chat = [message.chat_msg if isinstance(message, Message) else message for message in messages]
        said: list[str] = []
        seq, finish = 0, Finish(0, "stop", "stop")
        try:
            async with aclosing(caller.stream(model, Call(model.name, chat, options))) as stream:
                async for parts in stream:
                    for part in parts:
                        if isinstance(part, Finish):
                            finish = part
                        elif isinstance(part, Delta) and (chunk := _chunk(part, seq)) is not None:
                            seq += 1
                            said.append(chunk.data)
                            yield chunk
        except CallError as error:
            raise PartialAnswerError(error, "".join(said)) from error
        yield Chunk("", seq, "end", self._ending(finish, caller))

    def _ending(self, finish: Finish, caller: Caller) -> Mapping[str, Any]:
        ending: dict[str, Any] = {"finish_reason": finish.reason, "model": caller.response.model or self.model}
        if self._entry.wire == "anthropic":
            ending["stop_reason"] = finish.raw_reason
        if caller.response.id:
            ending["id"] = caller.response.id
        tokens = caller.tokens
        if tokens is not None:
            ending["usage"] = tokens.raw or {
                "prompt_tokens": tokens.input_tokens,
                "completion_tokens": tokens.output_tokens,
                "total_tokens": tokens.input_tokens + tokens.output_tokens,
            }
        return ending

    def _of_this_loop(self) -> ChatModel:
        loop = asyncio.get_running_loop()
        if loop not in self._serving:
            self._serving[loop] = build(self._entry, Deadlines())
        return self._serving[loop]

    async def aclose(self) -> None:
        """Close the connections that were opened from this event loop."""
        model = self._serving.pop(asyncio.get_running_loop(), None)
        if model is not None:
            await model.aclose()

    async def __aenter__(self) -> iModel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"iModel(provider={self.provider!r}, model={self.model!r}, name={self.name!r})"

    def __reduce__(self) -> Any:
        raise TypeError("an iModel holds an API key and is not serialised: make it anew")


class Invocation:
    """An answer that is asked for when it is awaited or iterated."""

    def __init__(self, model: iModel, messages: list[Message | Mapping[str, Any]], options: Mapping[str, Any]) -> None:
        self._model = model
        self._messages = messages
        self._options = options

    def __await__(self) -> Generator[Any, None, Response]:
        return self._model.complete(self._messages, **self._options).__await__()

    def __aiter__(self) -> AsyncIterator[Chunk]:
        """A generator that nobody else holds: who breaks out of the loop lets go of it, which closes the upstream."""
        if not self._model.stream_by_default:
            raise TypeError(
                f"{self._model!r} has stream=False: await the invocation, or make the model with stream=True"
            )
        return self._model._chunks(self._messages, self._options)


def refuse_unknown(options: Mapping[str, Any]) -> None:
    """Raises ``InvalidRequestError`` with the nearest known option."""
    for name in options:
        if name not in OPTIONS:
            near = difflib.get_close_matches(name, OPTIONS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InvalidRequestError(f"{name!r} is not a known option{hint}", param=name, code="unknown_option")


def _entry(
    provider: str,
    model: str,
    options: Mapping[str, Any],
    base_url: str | None,
    api_key: str | None,
    max_retries: int,
    parameters: Mapping[str, Any],
) -> Model:
    own = {"base_url": base_url, "api_key": api_key}
    given = {name: value for name, value in own.items() if value is not None}
    older = engine_of(provider).wire == "anthropic" and not SAMPLING.isdisjoint(options)
    headers = {"anthropic-version": OLDER_ANTHROPIC} if older else {}
    try:
        return Model(
            type="main",
            engine=provider,
            model=model,
            parameters={**parameters, **options, **given},
            railstream=ModelOptions(headers=headers, max_retries=max_retries),
        )
    except ValueError as error:
        raise ConfigurationError(f"iModel({provider!r}, {model!r}): {_first_line(error)}") from None


def _first_line(error: ValueError) -> str:
    """Without the values that were given: one of them may be the key."""
    found = getattr(error, "errors", None)
    if found is None:
        return str(error).partition("\n")[0]
    return "; ".join(str(entry["msg"]) for entry in found(include_input=False, include_url=False))


def _endpoint(entry: Model, given: str | None) -> str:
    usual = ENDPOINTS.get(entry.wire, "")
    if given is not None and given.strip("/") != usual:
        raise ConfigurationError(f"{entry.engine!r} is spoken to at {usual or 'no endpoint'!r}, not at {given!r}")
    return usual


def _require_key(entry: Model) -> None:
    if entry.key_variable and not entry.api_key and not entry.parameters.get("base_url"):
        raise ConfigurationError(
            f"the environment variable {entry.key_variable!r} that should hold the API key is not set, "
            "and no api_key is given"
        )


def _chunk(delta: Delta, seq: int) -> Chunk | None:
    """``None`` for a delta that says nothing, such as one with the role alone."""
    for kind, text in _other_kinds(delta):
        return Chunk(delta.content, seq, "text" if delta.content else kind, {kind: text}, delta.raw)
    return Chunk(delta.content, seq, raw=delta.raw) if delta.content else None


def _other_kinds(delta: Delta) -> Iterable[tuple[Kind, Any]]:
    if delta.reasoning:
        yield "reasoning", delta.reasoning
    if delta.refusal:
        yield "refusal", delta.refusal
    if delta.tools:
        yield "tool_calls", delta.tools.decode()
