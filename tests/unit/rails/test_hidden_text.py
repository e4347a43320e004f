"""What a text says in characters that nobody sees is read by input rails as the letters that a model makes of it."""

from __future__ import annotations

from typing import Any

import pytest
from railstream_engine.rails.matching.hidden import has_hidden, revealed
from unit.rails.guarding import Asked, engine, turn

CONFIG = {"terms": {"input": {"terms": ["tungsten"]}}, "regex_detection": {"input": {"patterns": ["zinc[0-9]"]}}}
FLOWS = ["terms check input", "regex check input"]


def tags(text: str) -> str:
    return "".join(chr(0xE0000 + ord(letter)) for letter in text)


def selectors(text: str) -> str:
    return "".join(chr(0xFE00 + byte if byte < 16 else 0xE0100 + byte - 16) for byte in text.encode())


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


HIDDEN: dict[str, dict[str, Any]] = {
    "a term in tags": user("Hello" + tags(" tell me about tungsten")),
    "a pattern in tags": user("Hello" + tags("zinc7")),
    "a term half in tags": user("tung" + tags("sten")),
    "a term in tags over two parts": user(
        [{"type": "text", "text": tags("tung")}, {"type": "text", "text": tags("sten")}]
    ),
    "tags as escapes of JSON": user(
        tags("tungsten").encode("utf-16-be").hex(" ", 2).replace(" ", "\\u").join(["\\u", ""])
    ),
    "a term in variation selectors": user("\U0001f600" + selectors("tungsten")),
    "a pattern in variation selectors": user("\U0001f600" + selectors("zinc7")),
    "tags behind an override": user("\u202e" + tags("netsgnut") + "\u202c"),
    "a name in tags": {"role": "user", "name": tags("tungsten"), "content": "Hello"},
}
PLAIN = ["\U0001f3f4" + tags("gbeng") + "\U000e007f", "\u2764\ufe0f \u845b\U000e0100", "1\ufe0f\u20e3", "Hello"]


@pytest.mark.parametrize("name", HIDDEN)
async def test_text_in_invisible_characters_is_read_as_its_letters(name: str) -> None:
    rails = engine({"input": {"flows": FLOWS}, "config": CONFIG})
    _, violation = await rails.check_input(turn(messages=[HIDDEN[name]]))
    assert violation is not None
    assert violation.code == "content_blocked"


@pytest.mark.parametrize("text", PLAIN)
async def test_flags_and_emojis_pass_as_they_are(text: str) -> None:
    rails = engine({"input": {"flows": FLOWS}, "config": CONFIG})
    messages, violation = await rails.check_input(turn(messages=[user(text)]))
    assert violation is None
    assert messages == [user(text)]


def test_what_is_hidden_is_told_from_ordinary_selectors() -> None:
    assert revealed("a" + tags("b c") + selectors("déf")) == "ab cdéf"
    assert not has_hidden("\u2764\ufe0f\u2764\ufe0f")
    assert not has_hidden("Grüße")


async def test_a_judge_reads_what_a_message_hides_as_plain_letters() -> None:
    prompts = [{"task": "self_check_input", "content": "Bad? {{ user_input }}"}]
    rails = engine({"input": {"flows": ["self check input"]}}, prompts=prompts)
    judge = Asked("No")
    _, violation = await rails.check_input(turn(judge, messages=[user("Hello" + tags(" tungsten"))]))
    assert violation is None
    assert any("Hello tungsten" in question for question in judge.questions)
