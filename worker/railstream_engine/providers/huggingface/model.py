"""A `transformers` pipeline as a model of the worker, or of a program: generated in a thread, one answer at a time.

Its thread is the queue: calls of one model wait for it in order. Leaving a stream stops the generation within one
token; an exception in `generate` reaches the reader as it is, and tokens are counted, not guessed.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from importlib import import_module
from typing import Any, Final

import msgspec
from railstream.errors import CallError, ConfigurationError

from railstream_engine.providers.endpoint import Patience
from railstream_engine.providers.faults import late
from railstream_engine.providers.huggingface.request import Stops, options_of, stops_of, tokens_of
from railstream_engine.providers.huggingface.text_streamer import AsyncTextIteratorStreamer, load_transformers
from railstream_engine.providers.options import accepted
from railstream_engine.providers.port import Call, Delta, Finish, Part, ResponseInfo, TokenCount

__all__ = ["AsyncTextIteratorStreamer", "HuggingFaceModel", "HuggingFacePipelineCompatible"]

LOADED_WITH: Final = frozenset(
    {"device", "device_map", "dtype", "revision", "trust_remote_code", "model_kwargs", "tokenizer", "token"}
)
"""Parameters of a model that are about loading it; all others are defaults of its generations."""
_encode = msgspec.json.Encoder().encode


class _Run:
    """One generation in the thread: its text, its counts, its stop."""

    def __init__(self, streamer: AsyncTextIteratorStreamer) -> None:
        self.streamer = streamer
        self.stopped = threading.Event()
        self.asked = 0
        self.said = 0
        self.ran_out = False

    @property
    def tokens(self) -> TokenCount:
        usage = {"prompt_tokens": self.asked, "completion_tokens": self.said}
        return TokenCount(self.asked, self.said, raw={**usage, "total_tokens": self.asked + self.said})

    def put(self, value: Any) -> None:
        """Tokens as `generate` has them: the prompt first."""
        if self.asked:
            self.said += value.numel()
        else:
            self.asked = value.numel()
        self.streamer.put(value)

    def end(self) -> None:
        """`generate` says it; the thread does, too, whatever happens."""

    def criterion(self, *_: Any, **__: Any) -> bool:
        return self.stopped.is_set()


class HuggingFaceModel:
    """``load`` gives the pipeline, in the thread, when it is first needed. ``params``: defaults of every call."""

    provider = "huggingface"
    address = ""
    port = 0

    def __init__(
        self,
        name: str,
        load: Callable[[], Any],
        params: Mapping[str, Any] | None = None,
        *,
        patience: Patience | None = None,
        refuses: frozenset[str] = frozenset(),
        drops: frozenset[str] = frozenset(),
    ) -> None:
        self.name = name
        self._load = load
        self._pipeline: Any = None
        self._params = dict(params or {})
        self._patience = patience or Patience()
        self._refuses, self._drops = refuses, drops
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"generate {name}")
        self._skips = {"skip_prompt": True, "skip_special_tokens": True}

    async def stream(self, call: Call) -> AsyncGenerator[Sequence[Part], None]:
        """Parts as they are generated, the count of tokens so far with each. Raises ``CallError``, as the port says."""
        params = {**self._params, **accepted(call, self.name, self._refuses, self._drops)}
        options, stops = options_of(params), Stops(stops_of(params))
        loop = asyncio.get_running_loop()
        pipeline = await loop.run_in_executor(self._thread, self._ready)
        run = _Run(AsyncTextIteratorStreamer(pipeline.tokenizer, **self._skips))
        made = loop.run_in_executor(self._thread, self._generate, run, call.messages, options, params.get("seed"))
        made.add_done_callback(_seen)
        heard: list[str] = []
        try:
            yield [ResponseInfo(model=self.name)]
            async with aclosing(self._texts(run)) as texts:
                async for text in texts:
                    said = stops.feed(text)
                    if said:
                        heard.append(said)
                        yield [_delta(said), run.tokens]
                    if stops.hit:
                        run.stopped.set()
                        break
            await self._outcome(made)
            if rest := stops.rest():
                yield [_delta(rest)]
            reason = "length" if run.ran_out and not stops.hit else "stop"
            yield [Finish(0, reason, reason), run.tokens]
        except CallError as error:
            error.partial = "".join(heard)
            raise
        finally:
            run.stopped.set()
            made.cancel()

    async def _texts(self, run: _Run) -> AsyncGenerator[str, None]:
        """Texts until the end, each within its deadline."""
        loop, patience = asyncio.get_running_loop(), self._patience
        last = loop.time() + patience.total
        limit, what = patience.first_token, "first_token_timeout"
        while True:
            due = loop.time() + limit
            try:
                async with asyncio.timeout_at(min(due, last)):
                    text = await anext(run.streamer)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                what, limit = (what, limit) if due <= last else ("total_timeout", patience.total)
                raise late(self.provider, self.name, what, limit) from error
            yield text
            limit, what = patience.chunk, "chunk_timeout"

    async def _outcome(self, made: asyncio.Future[None]) -> None:
        try:
            await made
        except CallError:
            raise
        except Exception as error:
            said = f"{self.name} failed: {type(error).__name__}: {error}"
            raise CallError(said, code="provider", provider_code=type(error).__name__) from error

    def _ready(self) -> Any:
        if self._pipeline is None:
            self._pipeline = self._load()
        return self._pipeline

    def _generate(
        self, run: _Run, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any], seed: int | None
    ) -> None:
        """In the thread. The end signal comes whatever happens: a reader must never wait for what is over."""
        transformers = load_transformers()
        try:
            if run.stopped.is_set():
                return
            model, tokenizer = self._pipeline.model, self._pipeline.tokenizer
            prompt = tokens_of(tokenizer, messages).to(model.device)
            asked = prompt["input_ids"].shape[-1]
            _check_length(self.name, model, asked)
            if seed is not None:
                transformers.set_seed(seed)
            criteria = transformers.StoppingCriteriaList([run.criterion])
            given = model.generate(**prompt, **options, streamer=run, stopping_criteria=criteria)
            run.said = given.shape[-1] - asked
            run.ran_out = run.said >= options["max_new_tokens"] and int(given[0, -1]) not in _ends(model)
            run.streamer.end()
        finally:
            run.streamer.abandon()

    async def aclose(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


class HuggingFacePipelineCompatible(HuggingFaceModel):
    """A pipeline of a program's own as its model: ``LLMRails(config, llm=HuggingFacePipelineCompatible(pipeline=…))``.

    ``model_kwargs`` are defaults of its generations. A ``streamer`` among them says how text is decoded; each answer
    gets one of its own.
    """

    def __init__(self, pipeline: Any, model_kwargs: Mapping[str, Any] | None = None, **_: Any) -> None:
        given = dict(model_kwargs or {})
        name = getattr(pipeline.model, "name_or_path", "") or "huggingface"
        super().__init__(str(name), lambda: pipeline, given)
        streamer = given.get("streamer")
        if isinstance(streamer, AsyncTextIteratorStreamer):
            self._skips = {**streamer.decode_kwargs, "skip_prompt": streamer.skip_prompt}


def load_pipeline(name: str, parameters: Mapping[str, Any]) -> Callable[[], Any]:
    """What loads a model by its name or directory. Raises ``ImportError`` at once where a library is missing."""
    transformers = load_transformers()
    import_module("torch")
    given = {key: value for key, value in parameters.items() if key in LOADED_WITH}

    def load() -> Any:
        try:
            return transformers.pipeline("text-generation", model=name, **given)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"the model {name!r} cannot be loaded: {error}") from error

    return load


def _delta(text: str) -> Delta:
    return Delta(0, _encode({"content": text}), text, exact=True)


def _check_length(name: str, model: Any, asked: int) -> None:
    most = getattr(model.config, "max_position_embeddings", None)
    if isinstance(most, int) and asked >= most:
        raise CallError(f"the prompt has {asked} tokens; {name} takes fewer than {most}", code="context_too_long")


def _ends(model: Any) -> frozenset[int]:
    ends = model.generation_config.eos_token_id
    return frozenset(() if ends is None else [ends] if isinstance(ends, int) else ends)


def _seen(made: asyncio.Future[None]) -> None:
    """Nobody may be left to ask for the failure of a generation that was left early."""
    if not made.cancelled():
        made.exception()
