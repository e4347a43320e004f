"""A span that is started, kept and ended by hand: it is never the current one, so no task switch can lose it."""

from __future__ import annotations

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, StatusCode, format_span_id, format_trace_id, set_span_in_context
from opentelemetry.util.types import AttributeValue

from railstream.telemetry import names

SERVER_ERROR = 500


def traceparent_of(span: SpanContext) -> str:
    """``00-<trace id>-<span id>-<flags>``; empty when nothing is traced."""
    if not span.is_valid:
        return ""
    return f"00-{format_trace_id(span.trace_id)}-{format_span_id(span.span_id)}-{span.trace_flags:02x}"


class OpenSpan:
    """Ends once, with its first `end`. ``context`` is what spans below it take as their parent."""

    __slots__ = ("_ended", "_error", "_renamed", "context", "span")

    def __init__(self, span: Span, parent: Context) -> None:
        self.span = span
        self.context = set_span_in_context(span, parent)
        self._ended = False
        self._error = ""
        self._renamed = False

    @property
    def traceparent(self) -> str:
        """This span as a ``traceparent``, and as the ``traceresponse`` of an answer; empty when not traced."""
        return traceparent_of(self.span.get_span_context())

    @property
    def trace_id(self) -> str:
        """32 hex digits for logs; empty when not traced."""
        context = self.span.get_span_context()
        return format_trace_id(context.trace_id) if context.is_valid else ""

    def set(self, name: str, value: AttributeValue) -> None:
        """After the end it says nothing: a span that has left cannot be changed."""
        if not self._ended:
            self.span.set_attribute(name, value)

    def route(self, method: str, template: str) -> None:
        """The route of an HTTP request, as its template: never with an id in it."""
        self.set(names.HTTP_ROUTE, template)
        if not self._renamed and not self._ended:
            self.span.update_name(f"{method} {template}")

    def rename(self, name: str) -> None:
        """A name that the route does not replace."""
        self._renamed = True
        self.span.update_name(name)

    def respond(self, status: int) -> None:
        """The HTTP status that was sent. A 5xx makes the span an error."""
        self.set(names.HTTP_STATUS, status)
        if status >= SERVER_ERROR:
            self._error = str(status)

    def fail(self, error_type: str) -> None:
        """What the `end` will say, for whoever knows how it went and does not end it."""
        self._error = error_type

    def end(self, error_type: str = "") -> None:
        """End it. ``cancelled`` is recorded as ``error.type`` without making the span an error."""
        if self._ended:
            return
        error = error_type or self._error
        if error:
            self.set(names.ERROR_TYPE, error)
            if error != names.CANCELLED:
                self.span.set_status(StatusCode.ERROR)
        self._ended = True
        self.span.end()
