"""The instruments themselves: a client that notices what is wrong, sums that add up, tables and plots that show it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from railstream.testing import text

from bench.load import Load, Observation, StreamSeen
from bench.measuring import Run, solve
from bench.plot import draw
from bench.reading import read
from bench.report import peers_table
from bench.results import Row

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
SECOND = 10**9


def frame(content: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": content}}]}).encode() + b"\n\n"


def response(*parts: bytes) -> bytes:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return HEAD + chunks + b"0\r\n\r\n"


def seen(whole: bytes, expected: str, size: int = 7) -> StreamSeen:
    """Read a response that came in pieces of ``size`` bytes, one each second."""
    cuts = range(0, len(whole), size)
    pieces = [(second * SECOND, whole[cut : cut + size]) for second, cut in enumerate(cuts)]
    return read(pieces, StreamSeen(sent=0, ended=0), expected)


def test_a_whole_stream_is_right_and_each_word_has_its_latency() -> None:
    words = [f"one{text.stamp(0)}", f" two{text.stamp(SECOND)}"]
    found = seen(response(*map(frame, words), b": keep-alive\n", b"data: [DONE]\n\n"), "one two")
    assert not found.error
    assert len(found.latencies) == 2
    assert found.latencies == [found.arrivals[0], found.arrivals[1] - SECOND]
    assert 0 < found.first == found.arrivals[0] < found.arrivals[1]


def test_a_stamp_that_was_cut_between_two_chunks_has_arrived_with_the_second() -> None:
    stamp = text.stamp(0)
    whole = response(frame("one" + stamp[:4]), frame(stamp[4:]), b"data: [DONE]\n\n")
    found = seen(whole, "one", size=len(whole))
    assert not found.error
    assert len(found.latencies) == 1


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (response(frame("one")), "no [DONE]"),
        (response(frame("one"), b"data: [DONE]\n\n"), "3 characters came, 7 were meant"),
        (response(frame(" two"), frame("one"), b"data: [DONE]\n\n"), "7 characters came"),
        (response(b'data: {"error": {"message": "no"}}\n\n', b"data: [DONE]\n\n"), "an error in the stream"),
        (b"HTTP/1.1 429 Too Many\r\n\r\nlater", "answered b'HTTP/1.1 429"),
        (b"", "answered b''"),
    ],
)
def test_a_stream_that_is_wrong_is_noticed(body: bytes, complaint: str) -> None:
    assert complaint in seen(body, "one two").error


def run_of(words: int, cpu: dict[str, float]) -> Run:
    load = Load(streams=10, words=words)
    return Run(load, Observation(0, SECOND, 0.0, []), cpu, {}, {}, others=0, busy=0)


def test_two_runs_of_different_length_give_both_costs() -> None:
    # 2 ms per request and 30 us per chunk
    costs = solve(run_of(100, {"gateway": 0.02 + 0.03}), run_of(500, {"gateway": 0.02 + 0.15}))
    assert costs["gateway"].chunks == pytest.approx(3)
    assert costs["gateway"].request == pytest.approx(2)
    assert costs["all"] == costs["gateway"]


def test_a_row_is_kept_or_missed_by_its_limit() -> None:
    assert Row("load", "all", 8.1, "CPU-s/100k", 8).verdict == "missed"
    assert Row("load", "all", 8.0, "CPU-s/100k", 8).verdict == "kept"
    assert Row("jobs", "growth", 79, "%", 80, at_least=True).verdict == "missed"
    assert Row("load", "straight", 1, "ms").verdict == ""


def test_the_sweep_is_drawn_as_svg(tmp_path: Path) -> None:
    parts = {part: {"cpu_s_per_100k": 3.0} for part in ("gateway", "worker", "redis", "all")}
    draw({"streams": {50: parts, 100: parts}, "workers": {1: parts}}, tmp_path / "plot.svg", budget=8, about="<here>")
    drawn = ElementTree.parse(tmp_path / "plot.svg").getroot()
    assert len(drawn.findall(".//{http://www.w3.org/2000/svg}rect")) == 1 + 3 * 3 + 3


def test_peers_stand_beside_each_other_and_what_was_not_counted_stays_empty() -> None:
    short: dict[str, Any] = {"cpu_s_per_100k": {"all": 12.3}, "added_ms": {"p50": 1.0, "p99": 2.0}, "other_cores": 0.1}
    short |= {"first_ms": {"p50": 3.0}, "memory_mb": {}}
    counted = short | {"memory_mb": {"server": 99.0}}
    cost = {"chunks": 8.0, "request": 6.0}
    runs = [
        {"system": "straight", "short": short, "long": short, "cost": None},
        {"system": "a peer", "short": counted, "long": counted, "cost": cost},
    ]
    table = peers_table(runs)
    assert list(table.columns[1].cells) == ["-", "12.3"]
    assert list(table.columns[7].cells) == ["-", "99 MB"]
