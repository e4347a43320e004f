"""The metrics of Railstream itself, as methods, so that no caller can add a label.

No label ever holds a request id, a stream's name or anything that a client sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal, Protocol

from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, Observation

from railstream.telemetry import names
from railstream.telemetry.labels import Bounded

Target = Literal["input", "output"]
Verdict = Literal["allow", "block", "rewrite", "error"]
CancelReason = Literal["request", "disconnect"]

COUNTERS: Final = {
    "railstream.requests.admitted": ("{request}", "Requests that were queued."),
    "railstream.requests.rejected": ("{request}", "Requests that were refused before the queue, by reason."),
    "railstream.stream.resumes": ("{resume}", "Readers that joined a stream after its start."),
    "railstream.stream.gaps": ("{gap}", "Losses that were signalled to a reader, by reason."),
    "railstream.cancels": ("{request}", "Requests that were cancelled, by reason."),
    "railstream.takeovers": ("{attempt}", "Attempts that took over from another worker, by reason."),
    "railstream.appends.fenced": ("{append}", "Appends that Redis refused because a later attempt had written."),
    "railstream.deliveries.repeated": ("{delivery}", "Deliveries of a job after its first."),
    "railstream.jobs.dead": ("{job}", "Jobs that failed their last delivery, by reason."),
    "railstream.rail.verdicts": ("{verdict}", "What rails decided, by flow, target and verdict."),
}
HISTOGRAMS: Final = {
    "railstream.queue.wait": ("s", "From a job's creation to the start of its first attempt."),
    "railstream.stream.time_to_first_event": ("s", "From a request's arrival to the first event sent to its client."),
    "http.server.request.duration": ("s", "Requests of the API by route and status; of a stream, to its end."),
    "railstream.rail.duration": ("s", "Duration of one check by a rail, by flow and target."),
}
QUEUE_DEPTH: Final = "railstream.queue.depth"
POOL_WORKERS: Final = "railstream.pool.workers"
QUEUE_AGE: Final = "railstream.queue.oldest_age"
SLOTS: Final = "railstream.worker.slots"
SLOTS_BUSY: Final = "railstream.worker.slots.busy"
GENERATIONS: Final = "railstream.generations.running"
GAUGES: Final = {
    QUEUE_DEPTH: ("{job}", "Jobs that wait for a worker, by pool."),
    QUEUE_AGE: ("s", "For how long the oldest waiting job has waited, by pool."),
    SLOTS: ("{slot}", "Jobs that this worker runs at once, at most."),
    SLOTS_BUSY: ("{slot}", "Jobs that this worker runs now."),
    POOL_WORKERS: ("{worker}", "Living workers of each pool that this gateway feeds."),
    GENERATIONS: ("{call}", "Answers that are generated now; calls of rails are not among them."),
}
DEFAULT_POOL: Final = "default"
CONFIG_INFO: Final = "railstream.config.info"
ACTIVE_STREAMS: Final = "railstream.streams.active"
BOUNDS: Final = (0.001, 0.0025, 0.005, *names.SECONDS_BOUNDS)
"""Seconds. Local rails and an idle queue take less than the first bound of the GenAI conventions."""


METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")


class QueueState(Protocol):
    """Jobs that wait in one pool, and seconds that the oldest of them has waited."""

    @property
    def waiting(self) -> int: ...

    @property
    def age(self) -> float: ...


class Instruments:
    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._counters: dict[str, Counter] = {
            name: meter.create_counter(name, unit, text) for name, (unit, text) in COUNTERS.items()
        }
        self._histograms: dict[str, Histogram] = {
            name: meter.create_histogram(name, unit, text, explicit_bucket_boundaries_advisory=BOUNDS)
            for name, (unit, text) in HISTOGRAMS.items()
        }
        self._active = meter.create_up_down_counter(ACTIVE_STREAMS, "{stream}", "Streams open to clients now.")
        self._reason = Bounded()
        self._method = Bounded(METHODS)
        self._flow = Bounded()

    def watch_queues(self, read: Callable[[], Mapping[str, QueueState] | None]) -> None:
        """Report depth and age of the queue of each pool whenever metrics are collected; ``None``: not known now.

        It may be called from another thread: return figures that are kept up to date, do not ask Redis.
        """

        def depth(state: QueueState) -> float:
            return state.waiting

        def age(state: QueueState) -> float:
            return state.age

        def observing(value: Callable[[QueueState], float]) -> Callable[[CallbackOptions], Iterable[Observation]]:
            return lambda _: [
                Observation(value(state), {names.POOL: pool or DEFAULT_POOL}) for pool, state in (read() or {}).items()
            ]

        self._gauge(QUEUE_DEPTH, observing(depth))
        self._gauge(QUEUE_AGE, observing(age))

    def watch_slots(self, total: int, busy: Callable[[], int], generating: Callable[[], int]) -> None:
        """Report how full this worker is. The callables are called from another thread."""
        self._gauge(SLOTS, lambda _: [Observation(total)])
        self._gauge(SLOTS_BUSY, lambda _: [Observation(busy())])
        self._gauge(GENERATIONS, lambda _: [Observation(generating())])

    def _gauge(self, name: str, observe: Callable[[CallbackOptions], Iterable[Observation]]) -> None:
        unit, text = GAUGES[name]
        self._meter.create_observable_gauge(name, [observe], unit, text)

    def begin_at_zero(self, name: str, reasons: Iterable[str]) -> None:
        """Export a counter before its first event, so that `increase` sees that one, too."""
        for reason in reasons:
            self._counters[name].add(0, {names.REASON: self._reason(reason)})

    def http_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """``route``: its template; empty where no route matched. ``status``: 0 when nothing was answered."""
        labels: dict[str, str | int] = {names.HTTP_METHOD: self._method(method), names.HTTP_ROUTE: route}
        if status:
            labels[names.HTTP_STATUS] = status
        self._histograms["http.server.request.duration"].record(seconds, labels)

    def watch_workers(self, by_pool: Callable[[], Mapping[str, int]]) -> None:
        """Report how many workers serve each pool whenever metrics are collected; nothing while it is not known.

        It may be called from another thread, as that of `watch_queues`.
        """

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(count, {names.POOL: pool or DEFAULT_POOL}) for pool, count in by_pool().items()]

        self._gauge(POOL_WORKERS, observe)

    def watch_configs(self, digests: Mapping[str, str]) -> None:
        """Report the digest of each loaded config, by its id: one that differs between two processes is seen."""
        labels = [{names.CONFIG_ID: id, names.CONFIG_DIGEST: digest[:12]} for id, digest in digests.items()]

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(1, one) for one in labels]

        self._meter.create_observable_gauge(CONFIG_INFO, [observe], "1", "1 for each loaded config and its digest.")

    def admitted(self) -> None:
        self._counters["railstream.requests.admitted"].add(1)

    def rejected(self, reason: str) -> None:
        """``reason``: the wire code of the error."""
        self._count("railstream.requests.rejected", reason)

    def queue_wait(self, seconds: float) -> None:
        self._histograms["railstream.queue.wait"].record(max(seconds, 0.0))

    def stream_opened(self) -> None:
        self._active.add(1)

    def stream_closed(self) -> None:
        self._active.add(-1)

    def first_event(self, seconds: float) -> None:
        self._histograms["railstream.stream.time_to_first_event"].record(seconds)

    def resumed(self) -> None:
        self._counters["railstream.stream.resumes"].add(1)

    def gap(self, reason: str) -> None:
        """``reason`` such as ``trimmed``, ``restarted`` or ``lost``."""
        self._count("railstream.stream.gaps", reason)

    def cancelled(self, reason: CancelReason) -> None:
        self._count("railstream.cancels", reason)

    def took_over(self, reason: str) -> None:
        """``reason``: ``lease_expired`` or ``handed_over``."""
        self._count("railstream.takeovers", reason)

    def fenced(self, appends: int = 1) -> None:
        self._counters["railstream.appends.fenced"].add(appends)

    def redelivered(self) -> None:
        self._counters["railstream.deliveries.repeated"].add(1)

    def dead(self, reason: str) -> None:
        """``reason``: the wire code of the last error."""
        self._count("railstream.jobs.dead", reason)

    def rail(self, flow: str, target: Target, verdict: Verdict, seconds: float | None) -> None:
        """A rail has decided: once per rail and turn, or per window of a judge, never per chunk.

        ``seconds``: its own time; ``None`` when it ran beside the whole text.
        """
        labels = {names.RAIL_FLOW: self._flow(flow), names.RAIL_TARGET: target}
        if seconds is not None:
            self._histograms["railstream.rail.duration"].record(seconds, labels)
        self._counters["railstream.rail.verdicts"].add(1, labels | {names.RAIL_VERDICT: verdict})

    def _count(self, name: str, reason: str) -> None:
        self._counters[name].add(1, {names.REASON: self._reason(reason)})
