# ruff: noqa: RUF001 - scripts that run from right to left
"""Text that is shown in another order than it is stored in hides nothing from the rails."""

from __future__ import annotations

from typing import Any

import pytest
from railstream_engine.rails.engine import RailsEngine
from railstream_engine.rails.matching.bidi import MOST_CONTROLS, shown, without_overrides
from unit.rails.guarding import engine, turn

WORD = "tungsten"


def rails(flow: str) -> RailsEngine:
    return engine({"input": {"flows": [flow]}, "config": {"terms": {"input": {"terms": [WORD]}}}})


HIDDEN = {
    "to the end": f"about \u202e{WORD[::-1]}",
    "closed": f"about \u202e{WORD[::-1]}\u202c please",
    "closed in the middle": f"about \u202e{WORD[:4][::-1]}\u202c{WORD[4:]}",
    "over the line before": f"\u202ex\n\u202e{WORD[::-1]}\nplease",
    "a part kept in order": "about \u202enets\u202dtung\u202c",
    "an isolate inside": "about \u202enets\u2066tung\u2069",
    "other marks inside": "\u202e" + "\u200b".join(WORD[::-1]),
    "in two overrides": f"\u202e\u202e{WORD[::-1]}",
}


@pytest.mark.parametrize("where", HIDDEN)
@pytest.mark.parametrize("flow", ["terms check input", "mask terms on input"])
async def test_a_word_that_is_shown_is_found(flow: str, where: str) -> None:
    places: list[dict[str, Any]] = [{"content": HIDDEN[where]}, {"content": "hi", "name": HIDDEN[where]}]
    for place in places:
        _, violation = await rails(flow).check_input(turn(messages=[{"role": "user", **place}]))
        assert violation is not None


async def test_a_word_that_is_shown_over_two_parts_is_found() -> None:
    parts = [{"type": "text", "text": text} for text in ("\u202enets", "gnut")]
    _, violation = await rails("terms check input").check_input(turn(messages=[{"role": "user", "content": parts}]))
    assert violation is not None


@pytest.mark.parametrize("text", ["\u202bשלום tungste\u202c", "\u202enetsgnu\u202ct", "مرحبا \u2067x\u2069", "\u202e"])
async def test_other_text_from_right_to_left_passes_as_it_is(text: str) -> None:
    messages = [{"role": "user", "content": text}]
    assert await rails("mask terms on input").check_input(turn(messages=messages)) == (messages, None)


def test_the_order_shown_is_found_in_one_pass_however_deep_it_is() -> None:
    assert shown("a\u202ebc\u202cd") == "acbd"
    assert shown("\u202eab\u202dcd\u202cef\u202c") == "fecdba"
    assert shown("\u202eab\ncd") == "ba\ncd"
    assert len(shown("\u202ex" * 9_000)) == 9_000
    assert without_overrides("a\u202eb\u202dc\u202c") == "abc\u202c"


@pytest.mark.parametrize("flow", ["terms check input", "mask terms on input"])
async def test_a_text_of_too_many_directional_characters_is_refused(flow: str) -> None:
    messages = [{"role": "user", "content": "\u202ex" * (MOST_CONTROLS + 1)}]
    _, violation = await rails(flow).check_input(turn(messages=messages))
    assert violation is not None
    assert violation.code == "rail_execution_failure"
    assert f"has {MOST_CONTROLS + 1} directional characters" in violation.message
    assert "leave the overrides" in violation.message


async def test_line_ends_without_an_override_are_no_directional_characters() -> None:
    messages = [{"role": "user", "content": "x\n" * (MOST_CONTROLS + 1)}]
    assert await rails("terms check input").check_input(turn(messages=messages)) == (messages, None)
