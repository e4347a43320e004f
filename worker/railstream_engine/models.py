"""The models of the loaded configs: one `ChatModel` per entry, built on first use, shared by all attempts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import partial

from railstream.config import Model, RailsConfig
from railstream.config.serving import Deadlines
from railstream.errors import ConfigurationError, ModelNotFoundError

from railstream_engine.providers.endpoint import Endpoint, Patience
from railstream_engine.providers.fallbacks import Fallbacks
from railstream_engine.providers.keyless import KeylessModel
from railstream_engine.providers.limited import Limited
from railstream_engine.providers.port import ChatModel
from railstream_engine.providers.quota import Limit, ProcessQuota, Quota
from railstream_engine.providers.scripted import ScriptedModel

MOST_COMBINATIONS = 1024
"""Entries remembered by identity: requests choose how configs are combined, so what they bring is bounded."""


class Models:
    """``quota``: what requests and tokens per minute are counted in; of this process alone when none is given."""

    def __init__(self, quota: Quota | None = None) -> None:
        self._quota = quota or ProcessQuota()
        self._built: dict[str, ChatModel] = {}
        self._known: dict[int, tuple[Model, ChatModel]] = {}

    def of(self, config: RailsConfig, name: str) -> Mapping[str, ChatModel]:
        """The models of a config by type; ``main`` is the one of that name.

        Raises:
            ModelNotFoundError: no main model of the config has that name.
        """
        chosen = [entry for entry in config.main_models if entry.model == name or not name]
        if not chosen:
            raise ModelNotFoundError(f"model {name!r} is not served by this config", param="model")
        models = {entry.type: self._of(entry, config) for entry in config.models if entry.used}
        return {**models, "main": self._of(chosen[0], config)}

    def _of(self, entry: Model, config: RailsConfig) -> ChatModel:
        known = self._known.get(id(entry))
        if known is None:
            model = with_fallbacks(entry, config, partial(self._built_of, config))
            if len(self._known) >= MOST_COMBINATIONS:
                self._known.clear()
            # The entry is kept beside its model, so that its id stays its own.
            known = self._known[id(entry)] = (entry, model)
        return known[1]

    def _built_of(self, config: RailsConfig, entry: Model) -> ChatModel:
        deadlines = config.deadlines_of(entry)
        value = f"{entry.model_dump_json()} {deadlines.model_dump_json()}"
        model = self._built.get(value)
        if model is None:
            model = self._built[value] = build(entry, deadlines, self._quota)
        return model

    async def aclose(self) -> None:
        for model in self._built.values():
            await model.aclose()


def with_fallbacks(entry: Model, config: RailsConfig, made: Callable[[Model], ChatModel]) -> ChatModel:
    """The model of an entry, with those that stand in for it where it names some."""
    named = [_named(config, name) for name in entry.railstream.fallbacks]
    return Fallbacks([made(entry), *map(made, named)]) if named else made(entry)


def _named(config: RailsConfig, name: str) -> Model:
    return next(entry for entry in config.models if entry.model == name and entry.used)


def build(entry: Model, deadlines: Deadlines, quota: Quota | None = None) -> ChatModel:
    """The model of one entry, within its limits; the engine's library is imported here, on first use.

    Raises:
        ConfigurationError: the library is not installed; the message names the extra that brings it.
    """
    own = entry.railstream
    if entry.missing_variables:
        return KeylessModel(entry)
    try:
        model = _MAKERS[entry.wire](entry, deadlines)
    except ImportError as error:
        extra = "worker" if entry.wire in ("openai", "responses", "google") else entry.wire
        raise ConfigurationError(
            f"engine {entry.engine!r} needs the extra {extra!r}: pip install 'railstream[{extra}]' ({error})"
        ) from error
    if not (own.concurrency or own.requests_per_minute or own.tokens_per_minute):
        return model
    limit = Limit(_account(entry), own.requests_per_minute or 0, own.tokens_per_minute or 0)
    return Limited(model, quota or ProcessQuota(), limit, concurrency=own.concurrency or 0, longest=own.queue_timeout)


def _account(entry: Model) -> str:
    """Who shares a provider's limits: one key's calls of one model."""
    return hashlib.sha256("\0".join((entry.base_url, entry.api_key, entry.model)).encode()).hexdigest()[:32]


def _scripted(entry: Model, deadlines: Deadlines) -> ChatModel:
    parameters = entry.parameters
    return ScriptedModel(
        entry.model,
        answers=parameters.get("answers", ()),
        words_per_second=float(parameters.get("words_per_second", 25)),
    )


def _openai(entry: Model, deadlines: Deadlines) -> ChatModel:
    from railstream_engine.providers.openai.model import OpenAIModel

    return OpenAIModel(_endpoint(entry, deadlines))


def _responses(entry: Model, deadlines: Deadlines) -> ChatModel:
    from railstream_engine.providers.openai_responses.model import ResponsesModel

    return ResponsesModel(_endpoint(entry, deadlines))


def _anthropic(entry: Model, deadlines: Deadlines) -> ChatModel:
    from railstream_engine.providers.anthropic.model import AnthropicModel

    return AnthropicModel(_endpoint(entry, deadlines))


def _google(entry: Model, deadlines: Deadlines) -> ChatModel:
    from railstream_engine.providers.google.model import GoogleModel

    return GoogleModel(_endpoint(entry, deadlines))


def _huggingface(entry: Model, deadlines: Deadlines) -> ChatModel:
    from railstream_engine.providers.huggingface.model import LOADED_WITH, HuggingFaceModel, load_pipeline

    params = {key: value for key, value in entry.request_params.items() if key not in LOADED_WITH}
    return HuggingFaceModel(
        entry.model,
        load_pipeline(entry.model, entry.parameters),
        params,
        patience=_patience(entry, deadlines),
        refuses=entry.refuses,
        drops=frozenset(entry.railstream.drops),
    )


def _patience(entry: Model, deadlines: Deadlines) -> Patience:
    return Patience(
        deadlines.connect, deadlines.first_token, deadlines.between_chunks, deadlines.total, entry.max_retries
    )


def _endpoint(entry: Model, deadlines: Deadlines) -> Endpoint:
    return Endpoint(
        model=entry.model,
        base_url=entry.base_url,
        api_key=entry.api_key,
        provider=entry.engine,
        params=entry.request_params,
        headers=entry.headers,
        query=entry.query,
        patience=_patience(entry, deadlines),
        continuous_usage=entry.railstream.continuous_usage,
        engine=entry.preset,
        refuses=entry.refuses,
        drops=frozenset(entry.railstream.drops),
        keeps=entry.keeps,
    )


_MAKERS: Mapping[str, Callable[[Model, Deadlines], ChatModel]] = {
    "openai": _openai,
    "responses": _responses,
    "anthropic": _anthropic,
    "google": _google,
    "huggingface": _huggingface,
    "scripted": _scripted,
}
