"""One trace per request, from the client through the queue to the provider, as spans that are ended by hand.

POST /v1/chat/completions        SERVER    gateway
└─ send railstream:jobs          PRODUCER  its context travels in the job's headers
   └─ process railstream:jobs    CONSUMER  one per attempt: parent = that context, and a link to it
      ├─ guardrail <flow>        INTERNAL  see `rails`
      └─ chat <model>            CLIENT    see `calls`
resume                           SERVER    another trace, with a link to that context
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from opentelemetry import baggage, propagate
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind, Tracer, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from railstream import keys
from railstream.telemetry import names
from railstream.telemetry.spans import OpenSpan


class Tracing:
    """``trusts_traceparent`` false restarts the trace at this edge and links to the caller's.

    ``baggage``: the keys that may travel with a job; all others stop at the gateway.
    """

    def __init__(self, tracer: Tracer, *, trusts_traceparent: bool = True, baggage: Iterable[str] = ()) -> None:
        self._tracer = tracer
        self._trusts_traceparent = trusts_traceparent
        self._baggage = frozenset(baggage)
        self._trace_context = TraceContextTextMapPropagator()
        self._baggage_propagator = W3CBaggagePropagator()

    def request(self, method: str, route: str, headers: Mapping[str, str], *, scheme: str = "http") -> OpenSpan:
        """SERVER span of an HTTP request. ``route`` is its template, such as ``/v1/chat/completions/{id}``.

        An edge that knows the route only later passes none, and says `OpenSpan.route` when it does.
        """
        caller = self._allowed(propagate.extract(headers, Context()))
        links: list[Link] = []
        if not self._trusts_traceparent:
            links, caller = _links(caller), Context()
        attributes: dict[str, AttributeValue] = {names.HTTP_METHOD: method, names.URL_SCHEME: scheme}
        opened = self._open(method, SpanKind.SERVER, caller, attributes, links)
        if route:
            opened.route(method, route)
        return opened

    def resume(self, request: OpenSpan, creation: str) -> None:
        """The request joins a stream that exists: link it to ``creation``, the traceparent in the stream's start."""
        for link in _links(self._trace_context.extract({"traceparent": creation}, Context())):
            request.span.add_link(link.context)
        request.rename("resume")

    def send(
        self, parent: Context, headers: dict[str, str], request_id: str, *, destination: str = keys.jobs()
    ) -> OpenSpan:
        """PRODUCER span of a job; its context is written into ``headers``. Set `names.MESSAGE_ID`, then end it."""
        attributes = _messaging("send", destination) | {names.REQUEST_ID: request_id}
        opened = self._open(f"send {destination}", SpanKind.PRODUCER, parent, attributes)
        self._trace_context.inject(headers, opened.context)
        self._baggage_propagator.inject(headers, opened.context)
        return opened

    def process(
        self,
        headers: Mapping[str, str],
        request_id: str,
        *,
        attempt: int,
        message_id: str = "",
        destination: str = keys.jobs(),
    ) -> OpenSpan:
        """CONSUMER span of one attempt at a job: child of the context in ``headers``, and linked to it."""
        parent = self._trace_context.extract(headers, Context())
        parent = self._allowed(self._baggage_propagator.extract(headers, parent))
        attributes = _messaging("process", destination)
        attributes |= {names.MESSAGING_GROUP: keys.GROUP, names.ATTEMPT: attempt, names.REQUEST_ID: request_id}
        if message_id:
            attributes[names.MESSAGE_ID] = message_id
        return self._open(f"process {destination}", SpanKind.CONSUMER, parent, attributes, _links(parent))

    def _open(
        self,
        name: str,
        kind: SpanKind,
        parent: Context,
        attributes: dict[str, AttributeValue],
        links: Iterable[Link] = (),
    ) -> OpenSpan:
        span = self._tracer.start_span(name, parent, kind, attributes, list(links))
        return OpenSpan(span, parent)

    def _allowed(self, context: Context) -> Context:
        """The context with the baggage that may travel, and no other."""
        kept = {name: value for name, value in baggage.get_all(context).items() if name in self._baggage}
        context = baggage.clear(context)
        for name, value in kept.items():
            context = baggage.set_baggage(name, value, context)
        return context


def _links(context: Context) -> list[Link]:
    span = get_current_span(context).get_span_context()
    return [Link(span)] if span.is_valid else []


def _messaging(operation: str, destination: str) -> dict[str, AttributeValue]:
    return {
        names.MESSAGING_SYSTEM: "redis",
        names.MESSAGING_OPERATION_NAME: operation,
        names.MESSAGING_OPERATION_TYPE: operation,
        names.MESSAGING_DESTINATION: destination,
    }
