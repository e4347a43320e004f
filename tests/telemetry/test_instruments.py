"""Railstream's own metrics: names, units, and labels that cannot grow."""

from __future__ import annotations

from typing import NamedTuple

from telemetry.recording import Recording


class Sample(NamedTuple):
    waiting: int
    age: float


def use_all(recording: Recording) -> None:
    instruments = recording.telemetry.instruments
    instruments.watch_queues(lambda: {"": Sample(7, 2.5), "gpu": Sample(1, 0.5)})
    instruments.watch_slots(64, lambda: 3, lambda: 2)
    instruments.http_request("POST", "/v1/chat/completions", 200, 1.5)
    instruments.admitted()
    instruments.rejected("queue_full")
    instruments.queue_wait(0.02)
    instruments.stream_opened()
    instruments.stream_opened()
    instruments.stream_closed()
    instruments.first_event(0.05)
    instruments.resumed()
    instruments.gap("trimmed")
    instruments.cancelled("disconnect")
    instruments.took_over("lease_expired")
    instruments.fenced(3)
    instruments.redelivered()
    instruments.dead("deliveries_exhausted")
    instruments.rail("self check output", "output", "block", 0.4)


def test_each_metric_has_its_name_unit_and_labels(recording: Recording) -> None:
    use_all(recording)

    found = {
        name: (metric.unit, sorted(metric.data.data_points[0].attributes))
        for name, metric in recording.metrics().items()
    }
    reason, rail = ["railstream.reason"], ["railstream.rail.flow", "railstream.rail.target"]
    assert found == {
        "railstream.queue.depth": ("{job}", ["railstream.pool"]),
        "railstream.queue.oldest_age": ("s", ["railstream.pool"]),
        "railstream.worker.slots": ("{slot}", []),
        "railstream.worker.slots.busy": ("{slot}", []),
        "railstream.generations.running": ("{call}", []),
        "http.server.request.duration": (
            "s",
            ["http.request.method", "http.response.status_code", "http.route"],
        ),
        "railstream.queue.wait": ("s", []),
        "railstream.requests.admitted": ("{request}", []),
        "railstream.requests.rejected": ("{request}", reason),
        "railstream.streams.active": ("{stream}", []),
        "railstream.stream.time_to_first_event": ("s", []),
        "railstream.stream.resumes": ("{resume}", []),
        "railstream.stream.gaps": ("{gap}", reason),
        "railstream.cancels": ("{request}", reason),
        "railstream.takeovers": ("{attempt}", reason),
        "railstream.appends.fenced": ("{append}", []),
        "railstream.deliveries.repeated": ("{delivery}", []),
        "railstream.jobs.dead": ("{job}", reason),
        "railstream.rail.duration": ("s", rail),
        "railstream.rail.verdicts": ("{verdict}", [*rail, "railstream.rail.verdict"]),
    }


def test_gauges_say_what_is_there_now(recording: Recording) -> None:
    use_all(recording)

    assert recording.point("railstream.streams.active").value == 1
    depths = {
        point.attributes["railstream.pool"]: point.value
        for point in recording.metrics()["railstream.queue.depth"].data.data_points
    }
    assert depths == {"default": 7, "gpu": 1}
    assert recording.point("railstream.worker.slots.busy").value == 3
    assert recording.point("railstream.appends.fenced").value == 3


def test_a_depth_that_is_not_known_is_not_reported(recording: Recording) -> None:
    recording.telemetry.instruments.watch_queues(lambda: None)

    assert "railstream.queue.depth" not in recording.metrics()


def test_a_counter_that_begins_at_zero_shows_its_first_event(recording: Recording) -> None:
    recording.telemetry.instruments.begin_at_zero("railstream.jobs.dead", ("deliveries_exhausted",))

    assert recording.point("railstream.jobs.dead").value == 0


def test_methods_that_a_client_makes_up_are_one_label(recording: Recording) -> None:
    for method in ("BREW", "PROPFIND", "GET"):
        recording.telemetry.instruments.http_request(method, "", 405, 0.1)

    points = recording.metrics()["http.server.request.duration"].data.data_points
    assert {point.attributes["http.request.method"] for point in points} == {"_OTHER", "GET"}


def test_clocks_that_disagree_make_no_negative_wait(recording: Recording) -> None:
    recording.telemetry.instruments.queue_wait(-0.3)

    assert recording.point("railstream.queue.wait").sum == 0
