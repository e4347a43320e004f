"""Railstream's own metrics: names, units, and labels that cannot grow."""

from __future__ import annotations

from telemetry.recording import Recording


def use_all(recording: Recording) -> None:
    instruments = recording.telemetry.instruments
    instruments.watch_queue(lambda: 7)
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
        "railstream.queue.depth": ("{job}", []),
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
    assert recording.point("railstream.queue.depth").value == 7
    assert recording.point("railstream.appends.fenced").value == 3


def test_a_depth_that_is_not_known_is_not_reported(recording: Recording) -> None:
    recording.telemetry.instruments.watch_queue(lambda: None)

    assert "railstream.queue.depth" not in recording.metrics()


def test_clocks_that_disagree_make_no_negative_wait(recording: Recording) -> None:
    recording.telemetry.instruments.queue_wait(-0.3)

    assert recording.point("railstream.queue.wait").sum == 0
