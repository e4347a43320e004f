"""The models of a config: which engine serves them, and how they are called."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from railstream.config.base import Location, Misplaced, Seconds, Section, nearest
from railstream.config.engines import ENGINES, Engine, azure_url, engine_of
from railstream.config.serving import OnWorkerLoss
from railstream.extra_fields import OF_A_CHOICE, OF_THE_ANSWER
from railstream.provider_options import SAFE

SCRIPTED: Final = "scripted"
UNUSED_TYPES: Final = frozenset({"embeddings"})
"""Accepted without effect: they serve dialog rails, which do not exist here."""

CLIENT_PARAMETERS: Final = frozenset(
    {
        "base_url",
        "api_key",
        "timeout",
        "connect_timeout",
        "max_retries",
        "default_headers",
        "default_query",
        "include_usage_in_stream",
        "stream",
        "streaming",
        "stream_usage",
        "azure_endpoint",
        "azure_deployment",
        "deployment_name",
        "api_version",
    }
)
"""Parameters that are about the client; all others go to the endpoint as they are."""
KEY_HEADERS: Final = frozenset({"authorization", "api-key", "x-api-key", "x-goog-api-key"})
"""Headers that bring a key of their own."""
SAMPLING: Final = frozenset({"temperature", "top_p", "top_k"})
"""Refused by Anthropic's API from 2026-10-21 on; its older models take them with the version of 2023-06-01."""


NOT_IN_RESPONSES: Final = frozenset(
    {
        "stop",
        "seed",
        "n",
        "logprobs",
        "top_logprobs",
        "logit_bias",
        "presence_penalty",
        "frequency_penalty",
        "prediction",
        "web_search_options",
    }
)
"""Options of chat completions that OpenAI's Responses API does not have."""


class CacheStats(Section):
    enabled: bool = False
    log_interval: float | None = None


class ModelCache(Section):
    """NeMo's cache of a rail model's answers: accepted, no effect."""

    enabled: bool = False
    maxsize: int = 50000
    stats: CacheStats = CacheStats()


class ModelOptions(Section):
    """What is ours about a model. Times in seconds; what is not given is the config's ``railstream.deadlines``."""

    connect_timeout: Seconds | None = None
    first_token_timeout: Seconds | None = None
    chunk_timeout: Seconds | None = None
    """Longest silence between two chunks."""
    total_timeout: Seconds | None = None
    max_retries: Annotated[int, Field(ge=0)] | None = None
    """Before the first token; never after it."""
    fallbacks: tuple[str, ...] = ()
    """Names of other models of this config, tried in turn when this one fails before its first token."""
    concurrency: Annotated[int, Field(gt=0)] | None = None
    """Calls at once of one worker."""
    requests_per_minute: Annotated[int, Field(gt=0)] | None = None
    """Of all workers together, in any 60 seconds. Several models of one account and name share it."""
    tokens_per_minute: Annotated[int, Field(gt=0)] | None = None
    """Likewise; a call is booked by an estimate, which its real usage replaces."""
    queue_timeout: Seconds = 30
    """Longest wait for `concurrency` and for the limits per minute; a longer one is refused at once."""
    drops: tuple[str, ...] = ()
    """Options of a request that this model refuses and that are left out for it. Else such a request is an error."""
    wire: Literal["chat", "responses"] = "chat"
    """Of an OpenAI-compatible provider. ``responses``: its Responses API in background mode, where the provider keeps
    the run, and a worker that takes over reads the same run again."""
    passes: Literal["all", "none"] | tuple[str, ...] | None = None
    """``pass`` in the file: the options beside OpenAI's that a request may send to it. Not given: the engine's."""
    keep_fields: Literal["all", "none"] | tuple[str, ...] = "all"
    """What of that which the provider says beside the delta is kept, of a closed list."""
    on_worker_loss: OnWorkerLoss | None = None
    """Not given: the config's."""
    headers: Mapping[str, str] = {}
    continuous_usage: bool = False
    """Ask for usage with every chunk (vLLM): an exact count of what a cancelled call had generated."""

    @field_validator("keep_fields")
    @classmethod
    def _of_the_list(cls, fields: Any) -> Any:
        for name in fields if isinstance(fields, tuple) else ():
            if name not in (known := (*OF_THE_ANSWER, *OF_A_CHOICE)):
                raise ValueError(f"{name!r} is not a field that can be kept{nearest(name, known)}")
        return fields

    @model_validator(mode="before")
    @classmethod
    def _read_pass(cls, data: Any) -> Any:
        """``pass`` is a word of Python's own, and no name of a field."""
        if not isinstance(data, Mapping) or "pass" not in data:
            return data
        return {("passes" if key == "pass" else key): value for key, value in data.items()}


class Model(Section):
    """One model. ``type`` is ``main``, or what a rail calls it by (``content_safety``, ``llama_guard``, …)."""

    type: str
    engine: str
    model: str = ""
    parameters: Mapping[str, Any] = {}
    mode: Literal["chat", "text"] = "chat"
    api_key_env_var: str | None = None
    cache: ModelCache | None = None
    railstream: ModelOptions = ModelOptions()

    @model_validator(mode="before")
    @classmethod
    def _one_name(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        parameters = dict(data.get("parameters") or {})
        names = [data.get("model"), parameters.pop("model", None), parameters.pop("model_name", None)]
        given = [name for name in names if name]
        if len(given) != 1:
            raise ValueError(
                "the model's name must be given in exactly one place, `model`, `parameters.model` or "
                f"`parameters.model_name`; got {given or 'none'}"
            )
        return {**data, "model": given[0], "parameters": parameters}

    @field_validator("mode")
    @classmethod
    def _chat_only(cls, mode: str) -> str:
        if mode == "text":
            raise ValueError("'text' (the completions endpoint) is not supported here; 'chat' is")
        return mode

    @field_validator("api_key_env_var")
    @classmethod
    def _key_is_set(cls, name: str | None, info: ValidationInfo) -> str | None:
        if name and (info.context or {}).get("require_keys", True) and not os.environ.get(name):
            raise ValueError(f"the environment variable {name!r} that should hold the API key is not set")
        return name

    @field_validator("parameters")
    @classmethod
    def _client_parameters(cls, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        problems: list[tuple[Location, str]] = []
        for key, least in (("timeout", 0.001), ("connect_timeout", 0.001), ("max_retries", 0)):
            value = parameters.get(key)
            if value is not None and (not isinstance(value, int | float) or value < least):
                problems.append(((key,), f"must be a number from {least} on, got {value!r}"))
        for key in ("default_headers", "default_query"):
            if not isinstance(parameters.get(key) or {}, Mapping):
                problems.append(((key,), "must be a mapping"))
        if problems:
            raise Misplaced(problems)
        return parameters

    @model_validator(mode="after")
    def _known_engine(self, info: ValidationInfo) -> Model:
        if self.type in UNUSED_TYPES:
            return self
        self._fits_its_wire()
        if self.engine in ENGINES:
            return self._fits_its_engine(where_it_is=(info.context or {}).get("require_keys", True))
        if not self.parameters.get("base_url"):
            hint = nearest(self.engine, ENGINES)
            message = f"{self.engine!r} is not a known engine{hint}; of any other, set `parameters.base_url`"
            raise Misplaced([(("engine",), message)])
        return self

    def _fits_its_engine(self, *, where_it_is: bool) -> Model:
        refused = sorted(self.refuses & set(self.request_params))
        if refused:
            place: Location = ("parameters", refused[0])
            raise Misplaced([(place, f"the engine {self.engine!r} refuses this option")])
        if where_it_is and self.wire in ("openai", "responses", "anthropic", "google") and not self.base_url:
            variable = self.preset.url_variable
            message = f"where {self.engine!r} is must be said: set `parameters.base_url`, or the variable {variable}"
            raise Misplaced([(("engine",), message)])
        return self

    def _fits_its_wire(self) -> None:
        if self.railstream.wire != "responses":
            return
        if self.preset.wire != "openai":
            message = f"the engine {self.engine!r} does not speak 'responses'; leave `wire` out"
            raise Misplaced([(("railstream", "wire"), message)])
        if self.railstream.on_worker_loss == "continue":
            message = "'continue' does not exist with `wire: responses`; set 'regenerate' or 'fail'"
            raise Misplaced([(("railstream", "on_worker_loss"), message)])

    @property
    def preset(self) -> Engine:
        return engine_of(self.engine)

    @property
    def wire(self) -> str:
        return "responses" if self.railstream.wire == "responses" else self.preset.wire

    @property
    def continues(self) -> bool:
        """Whether it goes on with a trailing assistant message."""
        return self.preset.continues and self.wire != "responses"

    @property
    def refuses(self) -> frozenset[str]:
        """Request options that this model answers with an error."""
        if self.wire == "responses":
            return self.preset.refuses | NOT_IN_RESPONSES
        older = self.wire == "anthropic" and self.headers.get("anthropic-version", "") == "2023-06-01"
        return self.preset.refuses - SAMPLING if older else self.preset.refuses

    @property
    def keeps(self) -> frozenset[str]:
        """Fields beside the delta that are kept of its answers."""
        given = self.railstream.keep_fields
        if isinstance(given, tuple):
            return frozenset(given)
        return frozenset((*OF_THE_ANSWER, *OF_A_CHOICE)) if given == "all" else frozenset()

    def passes(self, option: str, *, guarded: bool) -> bool:
        """Whether a request may send it an option that OpenAI's request has not.

        A guarded config passes by its engine's default only what cannot move text past its rails.
        """
        own = self.railstream.passes
        if isinstance(own, tuple):
            return option in own
        if own == "none":
            return False
        known = None if own == "all" else self.preset.passes
        return (known is None or option in known) and (option in SAFE or not guarded)

    @property
    def used(self) -> bool:
        return self.type not in UNUSED_TYPES

    @property
    def base_url(self) -> str:
        """Where it is served: as it says, else as the engine's variable says, else where the engine usually is."""
        given = self.parameters.get("base_url")
        if given:
            return str(given)
        preset = self.preset
        if preset.key_header == "api-key":
            return self._azure_url()
        return (os.environ.get(preset.url_variable) if preset.url_variable else None) or preset.base_url

    def _azure_url(self) -> str:
        endpoint = self.parameters.get("azure_endpoint") or os.environ.get(self.preset.url_variable, "")
        deployment = self.parameters.get("azure_deployment") or self.parameters.get("deployment_name") or self.model
        return azure_url(str(endpoint), str(deployment), str(self.parameters.get("api_version") or ""))

    @property
    def key_variable(self) -> str:
        """The environment variable that holds the API key; empty when none does."""
        if self.api_key_env_var or self.parameters.get("api_key"):
            return self.api_key_env_var or ""
        preset = self.preset
        return preset.other_key if os.environ.get(preset.other_key) and not os.environ.get(preset.key) else preset.key

    @property
    def api_key(self) -> str:
        """The key, read from the environment at each call; empty when there is none."""
        variable = self.key_variable
        return os.environ.get(variable, "") if variable else str(self.parameters.get("api_key") or "")

    @property
    def missing_variables(self) -> tuple[str, ...]:
        """Environment variables that are not set here, and without which no call of this model can succeed."""
        if not self.used:
            return ()
        needed = [self.preset.url_variable] if self.preset.url_variable and not self.base_url else []
        if self._needs_key and not self.api_key:
            needed.append(self.key_variable)
        return tuple(needed)

    @property
    def _needs_key(self) -> bool:
        """A variable that the config names is always needed; the engine's own one where the engine itself serves.

        What stands at another address, such as a local server that speaks the same protocol, may want no key.
        """
        if not self.key_variable or any(name.lower() in KEY_HEADERS for name in self.headers):
            return False
        usual = self.preset.base_url.rstrip("/")
        return bool(self.api_key_env_var) or not usual or self.base_url.rstrip("/") == usual

    @property
    def headers(self) -> dict[str, str]:
        return {**(self.parameters.get("default_headers") or {}), **self.railstream.headers}

    @property
    def query(self) -> dict[str, Any]:
        version = self.parameters.get("api_version")
        azure = {"api-version": version} if version and self.preset.key_header else {}
        return {**azure, **(self.parameters.get("default_query") or {})}

    @property
    def max_retries(self) -> int:
        own = self.railstream.max_retries
        return own if own is not None else int(self.parameters.get("max_retries", 2))

    @property
    def request_params(self) -> dict[str, Any]:
        """Request options that every call of this model starts from."""
        return {key: value for key, value in self.parameters.items() if key not in CLIENT_PARAMETERS}

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        shown = {key: "***" if key == "api_key" else value for key, value in self.parameters.items()}
        return [(name, shown if name == "parameters" else value) for name, value in super().__repr_args__()]
