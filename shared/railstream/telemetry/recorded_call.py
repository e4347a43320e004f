"""One LLM call while it runs: on the token path it takes a time stamp and counts; all else happens at its end.

It ends exactly once, with its first `finish`, `fail` or `cancel`, and keeps what was known by then.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol

import msgspec
from opentelemetry.context import Context
from opentelemetry.trace import Span, StatusCode, set_span_in_context
from opentelemetry.util.types import AttributeValue

from railstream.errors import CallError
from railstream.events import Usage
from railstream.telemetry import content, names, refused_keys
from railstream.telemetry.call_metrics import CallMetrics
from railstream.telemetry.chunk_times import Gaps
from railstream.telemetry.spans import traceparent_of
from railstream.tokens import input_estimate, output_estimate

BUCKETS = len(names.SECONDS_BOUNDS) + 1


class Tokens(Protocol):
    """Tokens of a call so far, as `railstream_engine.providers.port.TokenCount` has them."""

    @property
    def input_tokens(self) -> int: ...
    @property
    def output_tokens(self) -> int: ...
    @property
    def cached_input_tokens(self) -> int: ...
    @property
    def cache_write_input_tokens(self) -> int: ...
    @property
    def reasoning_tokens(self) -> int: ...


class Recorder(Protocol):
    """What started the call."""

    metrics: CallMetrics
    captures_content: bool
    clock: Callable[[], float]

    def forget(self, call: RecordedCall, response_model: str) -> str: ...


class RecordedCall:
    """One call. `chunk` is for the token path; `finish`, `fail` and `cancel` end it, and only the first one counts.

    As a context manager it ends what its block left open: a `CallError` as that failure, all else as a cancel.
    """

    __slots__ = (
        "_characters", "_clock", "_count", "_ended", "_first", "_gaps", "_known", "_labels", "_last", "_longest",
        "_messages", "_recorder",
        "_response_id", "_response_model", "_shortest", "_span", "_started", "_text", "_tokens",
    )  # fmt: skip

    def __init__(
        self,
        recorder: Recorder,
        span: Span,
        labels: dict[str, AttributeValue],
        known: Usage,
        messages: Sequence[Mapping[str, Any]],
    ) -> None:
        self._recorder = recorder
        self._span = span
        self._labels = labels
        self._known = known
        self._clock = recorder.clock
        self._started = self._first = self._last = recorder.clock()
        self._count = 0
        self._characters = 0
        self._messages = messages
        self._gaps = [0] * BUCKETS
        self._shortest = float("inf")
        self._longest = 0.0
        self._tokens: Tokens | None = None
        self._response_id = ""
        self._response_model = ""
        self._text: list[str] = []
        self._ended: Usage | None = None

    @property
    def captures_content(self) -> bool:
        """Whether `text` should be told what the model says."""
        return self._recorder.captures_content

    @property
    def context(self) -> Context:
        """For spans below this one."""
        return set_span_in_context(self._span, Context())

    @property
    def traceparent(self) -> str:
        """For the provider's request headers; empty when nothing is traced."""
        return traceparent_of(self._span.get_span_context())

    def chunk(self) -> None:
        """A chunk has arrived."""
        self.chunks(1)

    def chunks(self, count: int, characters: int = 0) -> None:
        """``count`` chunks, at least one, have arrived together, with so many characters of text in all."""
        now = self._clock()
        if self._count:
            gap = now - self._last
            self._gaps[bisect_left(names.SECONDS_BOUNDS, gap)] += 1
            if gap > self._longest:
                self._longest = gap
            if gap < self._shortest:
                self._shortest = gap
        else:
            self._first = now
        if count > 1:
            self._gaps[0] += count - 1
            self._shortest = 0.0
        self._count += count
        self._characters += characters
        self._last = now

    def text(self, text: str) -> None:
        """What the model says, kept only when content is captured."""
        if self._recorder.captures_content:
            self._text.append(text)

    def tokens(self, tokens: Tokens) -> None:
        """The latest cumulative count: it replaces the one before."""
        self._tokens = tokens

    def response(self, response_id: str, model: str) -> None:
        """What the provider says of itself."""
        self._response_id, self._response_model = response_id, model

    @property
    def is_answer(self) -> bool:
        """Whether it makes an answer, and is no rail's."""
        return self._known.task == "general"

    def finish(self, reasons: Sequence[str]) -> Usage:
        """The provider sent its terminal signal."""
        return self._end("finished", list(reasons), "")

    def fail(self, error_type: str) -> Usage:
        """It failed: a code of `railstream.call_kinds.CALL_KINDS`, or an exception's class name."""
        answered = self._count or error_type == "truncated"
        return self._end("failed", ["error"] if answered else [], error_type)

    def cancel(self) -> Usage:
        """It was cut, or left by whoever read it."""
        return self._end("cancelled", ["error"], names.CANCELLED)

    def usage(self) -> Usage:
        """For the stream's ``usage`` event: what is known now, and final once the call has ended."""
        return self._ended or self._usage("cancelled", self._clock())

    def count_on(self, tokens: Tokens | None, chunks: int, characters: int) -> Usage:
        """What is known of an ended call now that more of its stream was read, for nobody but this count.

        ``tokens``: the provider's own; ``None`` when it sent none, and then the estimate grows with what was read.
        """
        before = self.usage()
        self._count += chunks
        self._characters += characters
        if tokens is not None:
            self._tokens = tokens
        after = self._usage(before.outcome, self._clock())
        after = msgspec.structs.replace(
            after, complete=tokens is not None, seconds=before.seconds, chunks=before.chunks
        )
        if before.input_tokens is None and tokens is not None:
            self._recorder.metrics.tokens(after, self._labels, self.context)
        self._ended = after
        return after

    def __enter__(self) -> RecordedCall:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if isinstance(error, CallError):
            self.fail(error.code)
            refused_keys.note(self._known.provider, self._known.model, error)
        elif isinstance(error, Exception):
            self.fail(type(error).__name__)
        else:
            self.cancel()

    def _usage(self, outcome: str, now: float) -> Usage:
        known, tokens = self._known, self._tokens
        # A call that failed before its first chunk is not billed; one that was cut there may be, for its prompt.
        uncounted = tokens is None and (self._count > 0 or outcome == "cancelled")
        return Usage(
            call=known.call,
            task=known.task,
            model=known.model,
            provider=known.provider,
            input_tokens=tokens.input_tokens if tokens else None,
            output_tokens=tokens.output_tokens if tokens else None,
            cached_input_tokens=tokens.cached_input_tokens if tokens else 0,
            cache_write_input_tokens=tokens.cache_write_input_tokens if tokens else 0,
            reasoning_tokens=tokens.reasoning_tokens if tokens else 0,
            estimated_input_tokens=input_estimate(self._messages) if uncounted else None,
            estimated_output_tokens=output_estimate(self._count, self._characters) if uncounted else None,
            outcome=outcome,
            complete=outcome == "finished" and tokens is not None,
            seconds=round(now - self._started, 6),
            chunks=self._count,
        )

    def _end(self, outcome: str, reasons: list[str], error_type: str) -> Usage:
        if self._ended is not None:
            return self._ended
        now = self._clock()
        usage = self._ended = self._usage(outcome, now)
        response_label = self._recorder.forget(self, self._response_model)
        try:
            self._describe(usage, reasons, error_type)
            if response_label:
                self._labels[names.RESPONSE_MODEL] = response_label
            self._measure(now, usage, error_type)
        finally:
            self._span.end()
        return usage

    def _measure(self, now: float, usage: Usage, error_type: str) -> None:
        metrics, labels, context = self._recorder.metrics, self._labels, self.context
        outcome = {**labels, names.ERROR_TYPE: error_type} if error_type else labels
        metrics.duration(now - self._started, outcome, context)
        if self._count:
            metrics.first_chunk(self._first - self._started, labels, context)
        if self._count > 1:
            gaps = Gaps.of(self._gaps, self._last - self._first, self._shortest, self._longest)
            metrics.per_chunk(gaps, labels, context)
        metrics.tokens(usage, labels, context)

    def _describe(self, usage: Usage, reasons: list[str], error_type: str) -> None:
        span = self._span
        if not span.is_recording():
            return
        attributes: dict[str, AttributeValue] = {
            names.RESPONSE_ID: self._response_id,
            names.RESPONSE_MODEL: self._response_model,
            names.RESPONSE_FINISH_REASONS: reasons,
            names.USAGE_CACHE_READ: usage.cached_input_tokens,
            names.USAGE_CACHE_WRITE: usage.cache_write_input_tokens,
            names.USAGE_REASONING: usage.reasoning_tokens,
            names.ERROR_TYPE: error_type,
        }
        span.set_attributes({name: value for name, value in attributes.items() if value})
        if self._count:
            span.set_attribute(names.RESPONSE_TIME_TO_FIRST_CHUNK, self._first - self._started)
        if usage.input_tokens is not None:
            span.set_attribute(names.USAGE_INPUT_TOKENS, usage.input_tokens)
        if usage.output_tokens is not None:
            span.set_attribute(names.USAGE_OUTPUT_TOKENS, usage.output_tokens)
        if self._text:
            span.set_attribute(
                names.OUTPUT_MESSAGES, content.output_messages("".join(self._text), (reasons or ["error"])[0])
            )
        if usage.outcome == "failed":
            span.set_status(StatusCode.ERROR, error_type)
