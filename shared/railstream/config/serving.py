"""`railstream:` and the other sections that say how a config is served. Times in seconds, money in US dollars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from railstream.config.base import Seconds, Section

OnViolation = Literal["error", "content_filter", "refusal"]
OnWorkerLoss = Literal["continue", "regenerate", "fail"]
"""What becomes of an answer whose worker died after text was released. ``continue``: the model is asked to go on from
that text, given as a trailing assistant message. ``regenerate``: the model is asked again, and the answer goes on only
if the new text begins, character for character, with the released one. ``fail``: it ends with the partial text and a
typed error that may be repeated."""


class Deadlines(Section):
    """How long each step of an LLM call may take."""

    connect: Seconds = 5
    first_token: Seconds = 60
    between_chunks: Seconds = 60
    total: Seconds = 600


class UsageDrain(Section):
    """How far a call that was cut (cancelled, or blocked by a rail) is read on, for the usage at its end."""

    seconds: Seconds = 10
    tokens: Annotated[int, Field(gt=0)] = 2000
    """Of what is read on, by our estimate. The provider bills them."""


class Price(Section):
    """Dollars per million tokens."""

    input: Annotated[float, Field(ge=0)]
    output: Annotated[float, Field(ge=0)]
    cached_input: Annotated[float, Field(ge=0)] | None = None
    """Not given: the price of input."""


class Serving(Section):
    """``railstream``: what NeMo Guardrails has no key for."""

    on_violation: OnViolation | None = None
    """How a streaming client learns of a block. Not given: ``error``."""
    on_worker_loss: OnWorkerLoss | None = None
    """Not given: ``continue`` for models of an engine that goes on with a trailing assistant message, else ``fail``."""
    deadlines: Deadlines = Deadlines()
    retention: Seconds | None = None
    """How long a request's stream is kept after its end. Not given: the worker's setting."""
    pool: str = ""
    """Worker pool that runs this config's requests."""
    allow_request_rails: bool | None = None
    """Whether a request may switch rails off (``options.rails``, ``context.check_facts``, …). Not given: not over HTTP;
    in process, where the caller is the operator, it may."""
    usage_drain: UsageDrain | None = None
    """Given: a call that is cut is read to its end for its true usage. Not given: its upstream is closed at once, and
    an estimate stands in the ledger."""
    prices: Mapping[str, Price] = {}
    """By model name."""

    @field_validator("pool")
    @classmethod
    def _plain_pool(cls, value: str) -> str:
        if value and not value.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"{value!r} may hold letters, digits, '-' and '_' only")
        return value


class Tracing(Section):
    enabled: bool = False
    adapters: tuple[Mapping[str, Any], ...] = ()
    """Accepted; spans leave over OTLP, as the ``OTEL_*`` variables say."""
    span_format: Literal["opentelemetry", "legacy"] = "opentelemetry"
    enable_content_capture: bool = False
    """Put prompts and answers on spans. ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` wins over it."""


class Metrics(Section):
    enabled: bool = False
