"""No rail runs for long on the event loop: what takes time goes on in a thread, in order, and is bounded there too."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from railstream.errors import RailError
from railstream_engine.rails.engine import RailsEngine
from railstream_engine.rails.matching.incremental import IncrementalRail
from railstream_engine.rails.matching.match import UNDECIDED, Match
from railstream_engine.rails.matching.patterns import PatternSet, PatternSpec
from railstream_engine.rails.matching.search_time import ON_LOOP, UNLIMITED, Allowance, OffLoop, OffLoopTime, Pace
from unit.rails.guarding import Reader, cut, engine, run, turn
from unit.rails.test_incremental_properties import guard_of

SLOW = r"(\w+\s?)+!!$"
LONGEST_STALL = 0.025  # seconds
LONGEST_OF_MEGABYTES = 0.1
"""Seconds, on a machine that does other things: it is near 0.015 alone, and was whole seconds."""


class Stalls:
    longest = 0.0


@asynccontextmanager
async def watched_loop() -> AsyncGenerator[Stalls]:
    """How long the loop did not come back to a task that only wants to run again, in time of its own processor.

    Time of the clock would also count what other programs of the machine took meanwhile.
    """
    stalls = Stalls()

    async def watch() -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0.001)
            now = time.thread_time()
            stalls.longest = max(stalls.longest, now - last)
            last = now

    watcher = asyncio.create_task(watch())
    await asyncio.sleep(0.005)
    try:
        yield stalls
        await asyncio.sleep(0.002)  # a stall at the very end
    finally:
        watcher.cancel()


def slow_text(length: int) -> str:
    return ("word words wording " * 20)[: length - 5] + "!! so"


def regex_engine(pattern: str, stage: str, flow: str = "") -> RailsEngine:
    flow = flow or f"regex check {stage}"
    return engine({stage: {"flows": [flow]}, "config": {"regex_detection": {stage: {"patterns": [pattern]}}}})


async def test_a_backtracking_pattern_on_twelve_messages_does_not_stop_the_loop() -> None:
    rails = regex_engine(SLOW, "input")
    messages = [{"role": "user", "content": slow_text(60 + 20 * number)} for number in range(12)]
    async with watched_loop() as stalls:
        _, violation = await rails.check_input(turn(messages=messages))
    assert stalls.longest < LONGEST_STALL
    assert violation is not None  # the longest has its marks where its bound ends


async def test_twelve_requests_at_once_with_a_pattern_without_end_are_blocked_and_the_loop_runs_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("railstream_engine.rails.matching.search_time.OFF_LOOP_SECONDS", 0.1)
    rails = regex_engine("(a|aa)+$", "input")
    async with watched_loop() as stalls:
        checked = await asyncio.gather(*(rails.check_input(turn(user="a" * 200 + "b")) for _ in range(12)))
    assert stalls.longest < LONGEST_STALL
    for _, violation in checked:
        assert violation is not None
        assert (violation.code, violation.message) == (
            "rail_execution_failure",
            "Internal error in regex check input rail: its patterns took longer than 0.1 s to search this text",
        )


@pytest.mark.parametrize("size", [1, 7, 40, 1000, 5000])
async def test_what_is_pushed_during_a_slow_search_leaves_behind_it_and_in_order(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "railstream_engine.rails.matching.search_time.ON_LOOP_SECONDS", 0
    )  # every longer search is too slow
    rail = IncrementalRail("regex", PatternSet([PatternSpec("a.{0,40}c(?=!)")], extent_matters=False), False)
    text = "".join(f"{number} and a word " for number in range(200)) + "the end aac! and on"
    reader = Reader()
    await run(guard_of([rail], reader), reader, cut(text, [size] * len(text)))
    found = re.search("a.{0,40}c(?=!)", text)
    assert found is not None
    assert reader.text == text[: found.start()]
    assert reader.violation is not None
    assert reader.violation.flow == "regex"


async def test_rails_behind_a_slow_one_see_what_it_lets_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("railstream_engine.rails.matching.search_time.ON_LOOP_SECONDS", 0)
    slow = IncrementalRail("slow", PatternSet([PatternSpec("a{30,60}c", mask="<bad>")], extent_matters=True), True)
    word = IncrementalRail("word", PatternSet([PatternSpec("<bad>|bad", mask="good")], extent_matters=True), True)
    text = "so bad " + "a" * 60 + " bad " + "a" * 40 + "c bad"
    for size in (1, 30, 2000):
        reader = Reader()
        await run(guard_of([slow, word], reader), reader, cut(text, [size] * len(text)))
        assert (reader.text, reader.violation) == ("so good " + "a" * 60 + " good good good", None)


async def test_a_pattern_that_was_slow_is_searched_off_the_loop_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("railstream_engine.rails.matching.search_time.OFF_LOOP_SECONDS", 0.05)
    rail = IncrementalRail("slow", PatternSet([PatternSpec("(a|aa)+$")], extent_matters=False), False)
    reader = Reader()
    await run(guard_of([rail], reader), reader, ["a" * 34 + "b"])
    await asyncio.sleep(0)
    pushed = guard_of([rail], reader)
    assert not pushed.passes("a" * 9)
    with pytest.raises(OffLoop):
        rail.matcher.find("a" * 9, 0, False, ON_LOOP)
    assert rail.matcher.find("a" * 4, 0, False, ON_LOOP)  # too short to be slow
    async with watched_loop() as stalls:
        for _ in range(5):
            reader = Reader()
            await run(guard_of([rail], reader), reader, ["a" * 34 + "b"])
    assert stalls.longest < LONGEST_STALL


@pytest.mark.parametrize(
    ("flow", "section", "options", "text"),
    [
        ("mask pii on output", "pii_patterns", {}, "mail a.b@example.com or 4111 1111 1111 1111, words "),
        ("mask terms on output", "terms", {"terms": ["purple dragon", "x"]}, "a purple  dragon x x x x é words "),
        ("detect secrets on output", "secrets", {}, "sk-short and eyJhbGciOi.eyJ and words "),
    ],
)
async def test_a_delta_of_megabytes_does_not_stop_the_loop(
    flow: str, section: str, options: dict[str, object], text: str
) -> None:
    rails = engine({"output": {"flows": [flow]}, "config": {section: {"output": options}}})
    delta = text * (300_000 // len(text))
    reader = Reader()
    guard = rails.guard(turn(), reader.release, reader.block)
    async with watched_loop() as stalls:
        await run(guard, reader, [delta, "the end"])
    assert stalls.longest < LONGEST_OF_MEGABYTES
    assert reader.violation is None
    assert len(reader.pieces) < 70 or section == "secrets"
    small = Reader()
    await run(rails.guard(turn(), small.release, small.block), small, cut(text * 40, [50] * 99))
    assert reader.text.startswith(small.text[: len(small.text) - 100])


async def test_a_message_of_megabytes_does_not_stop_the_loop() -> None:
    rails = engine(
        {
            "input": {"flows": ["mask pii on input", "jailbreak detection heuristics"]},
            "config": {"pii_patterns": {"input": {"entities": ["email", "card"]}}},
        }
    )
    async with watched_loop() as stalls:
        messages, violation = await rails.check_input(turn(user="mail a@b.example or wörds \n" * 10_000))
    assert stalls.longest < LONGEST_OF_MEGABYTES
    assert violation is None
    assert messages[0]["content"] == "mail [email] or wörds \n" * 10_000


async def test_closing_a_guard_stops_what_it_does_and_releases_nothing_more() -> None:
    rails = engine({"output": {"flows": ["mask pii on output"]}})
    reader = Reader()
    guard = rails.guard(turn(), reader.release, reader.block)
    assert guard is not None
    reader.push(guard, "mail a@b.example " * 50_000)
    await asyncio.sleep(0)
    await guard.aclose()
    assert (reader.text, reader.violation) == ("", None)
    await guard.aclose()


async def test_an_error_of_whoever_takes_a_late_release_is_raised_at_the_end() -> None:
    rails = engine({"output": {"flows": ["mask pii on output"]}})

    def gone(consumed: int, text: str | None) -> None:
        raise ConnectionError("gone")

    guard = rails.guard(turn(), gone, Reader().block)
    assert guard is not None
    guard.push("words " * 1000)
    with pytest.raises(ConnectionError, match="gone"):
        await guard.finish()
    await guard.aclose()


class Waits:
    """Never in time on the loop; in the thread it waits to be let go, and counts who looks at once."""

    reach, context, first, begins, folding = 1, 1, None, None, None

    def __init__(self) -> None:
        self.started, self.go = threading.Event(), threading.Event()
        self.looks = 0

    def find(self, text: str, start: int, final: bool, within: Allowance = UNLIMITED) -> Match:
        assert self.looks == 0, "two looks at one text at once"
        if within is ON_LOOP:
            raise OffLoop
        self.looks += 1
        self.started.set()
        assert self.go.wait(10)
        self.looks -= 1
        return Match(len(text), UNDECIDED)

    def find_whole(self, text: str, start: int) -> Match | None:
        return None

    def replacement(self, match: Match) -> str:
        return ""


async def test_nothing_else_looks_at_a_text_that_a_thread_searches() -> None:
    matcher = Waits()
    reader = Reader()
    guard = guard_of([IncrementalRail("waits", matcher, False)], reader)
    reader.push(guard, "one ")
    await asyncio.to_thread(matcher.started.wait, 10)
    assert not guard.passes("two ")
    reader.push(guard, "two ")
    assert reader.text == ""
    matcher.go.set()
    await guard.finish()
    assert (reader.text, reader.violation) == ("one two ", None)


def test_the_searches_of_one_text_share_its_time_off_the_loop() -> None:
    within = OffLoopTime()
    for _ in range(2):
        clock = within.start(Pace())
        clock._began -= 0.6  # so long ago
        within.stop(clock)
    with pytest.raises(RailError, match="longer than 1 s"):
        within.start(Pace())
