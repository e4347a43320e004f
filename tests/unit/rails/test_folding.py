# ruff: noqa: RUF001 - characters that look like others are what is tested
"""Terms and detectors read a text as a person reads it, however it is written; what does not look alike stays apart."""

from __future__ import annotations

from typing import Any

import pytest
from railstream.config import RailsConfig
from railstream.errors import ConfigurationError
from railstream_engine.rails.engine import RailsEngine
from railstream_engine.rails.matching.confusables import CONFUSABLES
from railstream_engine.rails.matching.folding import BREAK, SKIPPED_AT_ONCE, Folding
from railstream_engine.rails.matching.incremental import SLICE
from unit.rails.guarding import Reader, cut, engine, run, turn

SIZES = [1, 2, 5, 900]
PURPLE = {"terms": ["purple dragon"]}

WRITTEN_OTHERWISE = {
    "zero-width space": "pur\u200bple dragon",
    "zero-width joiners": "p\u200du\u200cr\u2060ple dra\ufeffgon",
    "soft hyphen": "pur\u00adple dragon",
    "directions": "\u202epurple\u202c \u200fdra\u061cgon",
    "tags": "pur\U000e0041\U000e0042ple dragon",
    "variation selectors": "p\ufe0furple dra\U000e0101gon",
    "grapheme joiner": "pu\u034frple dragon",
    "Hangul filler": "pur\u3164ple dragon",
    "control characters": "pur\x00\x08ple\x7f dragon",
    "Thai vowel on a Latin letter": "pu\u0e34rple dragon",
    "struck through": "p\u0336u\u0336r\u0336p\u0336l\u0336e\u0336 dragon",
    "accents on top": "pu\u0301\u0323rple\u20dd dragon",
    "a composed letter that no language writes": "ṗurple dragon",
    "no-break space": "purple\u00a0dragon",
    "white space": "purple \t\u2003\n\r\n  dragon",
    "an empty Braille pattern": "purple\u2800dragon",
    "full width": "ｐｕｒｐｌｅ　ｄｒａｇｏｎ",
    "mathematical": "𝐩𝑢𝓇𝔭𝕝𝚎 𝗱𝘳𝙖𝚐𝒐𝖓",
    "circled": "ⓟⓤⓡⓟⓛⓔ ⓓⓡⓐⓖⓞⓝ",
    "negative squared": "🅿🆄🆁🅿🅻🅴 🅳🆁🅰🅶🅾🅽",
    "regional indicators": "🇵🇺🇷🇵🇱🇪 🇩🇷🇦🇬🇴🇳",
    "small capitals": "ᴘᴜʀᴘʟᴇ ᴅʀᴀɢᴏɴ",
    "superscripts": "ᵖᵘʳᵖˡᵉ ᵈʳᵃᵍᵒⁿ",
    "phonetic letters": "pʊrplɛ ɖrɑɡɔɲ",
    "turned letters": "puɹplǝ dɹɐgou".replace("ou", "oɴ"),
    "in brackets": "⒫⒰⒭⒫⒧⒠ 🄓🄡🄐🄖🄞🄝",
    "regional and circled": "🇵🅤🇷🅟🇱🅔 🅓🇷🅐🇬🅞🇳",
    "private use": "pu\ue000rple dra\U000f0001gon",
    "noncharacters": "pu\ufdd0rple dra\ufffegon",
    "object replacement": "pu\ufffcrple dragon",
    "tatweel": "pu\u0640rple dragon",
    "replacement character": "pu\ufffdrple dragon",
    "unassigned": "pu\u0378rple dra\U000323b1gon",
    "half a surrogate pair": "pu\ud83drple dragon",
    "schwa": "purplə dragon",
    "Cyrillic": "рurрlе drаgоn",
    "Cyrillic capitals": "РURРLЕ DRАGОN",
    "Greek": "ρurρle drαgοn",
    "Cherokee": "ᏢURᏢᏞᎬ DRAGON",
    "Fraktur": "ℌ ℙurple dragon",
    "bold": "**purple** dragon",
    "bold inside": "pur**ple** dra__gon__",
    "code and strike": "`pur``ple` ~~dragon~~",
    "nested": "***purple*** _*dragon*_",
    "all at once": "**р\u200buｒ\u0336ple**\u00a0\u00a0_dr\u00adаgon_",
}


async def released(rails: RailsEngine, text: str, size: int) -> Reader:
    reader = Reader()
    guard = rails.guard(turn(), reader.release, reader.block)
    return await run(guard, reader, cut(text, [size] * len(text)))


def terms(flow: str, **options: Any) -> RailsEngine:
    return engine({"output": {"flows": [flow]}, "config": {"terms": {"output": PURPLE | options}}})


def detectors(flow: str, section: str, **options: Any) -> RailsEngine:
    return engine({"output": {"flows": [flow]}, "config": {section: {"output": options}}})


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("written", WRITTEN_OTHERWISE.values(), ids=WRITTEN_OTHERWISE)
async def test_a_term_is_found_however_it_is_written(written: str, size: int) -> None:
    reader = await released(terms("terms check output"), f"see: {written}!", size)
    assert reader.violation is not None
    assert reader.text.startswith("see: ")
    assert "g" not in Folding().fold(reader.text)  # nothing of the dragon


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("written", WRITTEN_OTHERWISE.values(), ids=WRITTEN_OTHERWISE)
async def test_a_mask_covers_the_characters_of_the_term_and_no_others(written: str, size: int) -> None:
    reader = await released(terms("mask terms on output"), f"é: {written}\u200b; «ﬁn» **x**", size)
    assert reader.violation is None
    before, _, after = reader.text.partition("***;") if "***;" in reader.text else reader.text.partition("***")
    assert before.startswith("é: ")
    assert after.endswith("«ﬁn» **x**")
    assert "dragon" not in Folding().fold(reader.text).lower()


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("a **purple** dragon.", "a *****."),
        ("a purple\u200b dragon\u200b.", "a ***\u200b."),
        ("_purple dragon_", "_***_"),
        ("``purple dragon``", "``***``"),
        ("purple\n\n  dragon  x", "***  x"),
    ],
)
async def test_marks_around_a_term_stay_and_those_inside_go_with_it(text: str, masked: str) -> None:
    for size in SIZES:
        assert (await released(terms("mask terms on output"), text, size)).text == masked


@pytest.mark.parametrize(
    "text",
    [
        "purple&nbsp;dragon",
        "pur&shy;ple dragon",
        "purpledragon",
        "purple-dragon",
        "púrple dragon",
        "purple dragons",
        "purple, dragon",
        "pur ple dragon",
        "cHVycGxlIGRyYWdvbg==",
    ],
)
async def test_an_entity_another_word_or_another_letter_is_no_other_way_to_write_it(text: str) -> None:
    for size in SIZES:
        reader = await released(terms("terms check output"), text, size)
        assert (reader.text, reader.violation) == (text, None)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("text", ["hi \ud83d", "\ude80 there", "hello \ud800 x"])
async def test_half_a_surrogate_pair_is_a_letter_like_any_other(text: str, size: int) -> None:
    reader = await released(terms("mask terms on output"), f"{text} and a purple dragon.", size)
    assert reader.violation is None
    assert reader.text == f"{text} and a ***."


@pytest.mark.parametrize("size", SIZES)
async def test_folding_can_be_turned_off(size: int) -> None:
    rails = terms("terms check output", fold=False)
    assert (await released(rails, "pur\u200bple dragon", size)).violation is None
    assert (await released(rails, "a Purple Dragon", size)).violation is not None


@pytest.mark.parametrize(
    ("term", "found", "passed"),
    [
        ("café", ["café", "cafe\u0301", "CAFÉ", "cafe\u200b\u0301", "cаfe\u0301"], ["cafe", "cafè"]),
        ("ano", ["ano", "an\u0303o"], ["año"]),
        ("привет", ["привет", "ПРИВЕТ", "Привет", "при\u200bвет", "пpивeт"], ["приветы"]),
        ("νερό", ["νερό", "ΝΕΡΌ", "Νερό", "νερο\u0301"], ["νερά"]),
        ("мой", ["мой", "мои\u0306", "МОЙ"], ["мои"]),
        ("がき", ["がき", "か\u3099き"], ["かき"]),
        ("ที่นี่", ["ที่นี่"], ["ทนน"]),
        ("don't", ["don't", "don’t", "donʼt"], ["dont"]),
        ("e-mail", ["e-mail", "e\u2011mail", "e–mail"], ["email"]),
        ("my_secret", ["my_secret", "my\\_secret".replace("\\", ""), "mysecret"], ["my secret"]),
        ("ofﬁce", ["office", "OFFICE", "oﬃce"], ["ofice"]),
    ],
)
async def test_terms_of_other_scripts_and_with_accents_are_found_in_their_spellings(
    term: str, found: list[str], passed: list[str]
) -> None:
    for whole_words in (True, False):
        rails = terms("terms check output", terms=[term], whole_words=whole_words)
        for size in (1, 900):
            for text in found:
                assert (await released(rails, f"x {text} y", size)).violation is not None, text
            for text in passed if whole_words else passed[:0]:
                assert (await released(rails, f"x {text} y", size)).violation is None, text


def test_a_term_of_marks_alone_is_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigurationError, match=r"the term '\*\*' is nothing but .*fold: false"):
        terms("terms check output", terms=["**"])
    assert terms("terms check output", terms=["**"], fold=False)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("card 4111\u00a01111\u20091111  1111.", "card [card]."),
        ("card ４１１１ １１１１ １１１１ １１１１.", "card [card]."),
        ("card 4111\u200b1111\u200b1111\u200b1111.", "card [card]."),
        ("card ٤١١١١١١١١١١١١١١١.", "card [card]."),
        ("card **4111** 1111 `1111` 1111.", "card **[card]."),
        ("ssn 078\u201105\u20131120.", "ssn [ssn]."),
        ("ssn 078\n-05", "ssn 078\n-05"),
        ("mail ada\u200b@mail\u2024example.com!", "mail [email]!"),
        ("mail аdа@example.com and ada＠example.com", "mail [email] and [email]"),
        ("_192.168.10.254_", "_[ip]_"),
        ("call +49\u00a030\u200b 1234567\n1234567890", "call [phone]\n1234567890"),
        ("DE89\u00a03704\u00a00044\u00a00532\u00a00130\u00a000", "[iban]"),
    ],
)
async def test_personal_data_is_found_however_it_is_written(text: str, masked: str, size: int) -> None:
    reader = await released(detectors("mask pii on output", "pii_patterns"), text, size)
    assert (reader.text, reader.violation) == (masked, None)


async def test_a_key_keeps_its_underscores_and_is_found_between_marks() -> None:
    rails = detectors("mask secrets on output", "secrets")
    for size in SIZES:
        key = "ghp_" + "x1" * 18
        text = f"`{key}` and **ghp\u200b_{'x1' * 18}** and sk_live_{'a1' * 8}"
        assert (await released(rails, text, size)).text == "`[api_key]` and **[api_key]** and [api_key]"


async def test_detectors_read_the_text_as_written_where_folding_is_off() -> None:
    rails = detectors("mask pii on output", "pii_patterns", fold=False)
    for size in SIZES:
        text = "4111\u00a01111\u00a01111\u00a01111, 4111 1111 1111 1111"
        assert (await released(rails, text, size)).text == "4111\u00a01111\u00a01111\u00a01111, [card]"


async def test_a_pattern_means_what_it_says_unless_it_is_to_fold() -> None:
    for fold, text, stopped in (
        (False, "sec\u200bret", False),
        (False, "ﬁ secret", True),
        (True, "sec\u200bret", True),
        (True, "ｓecret", True),
        (True, "a*b secret", True),
    ):
        rails = detectors("regex check output", "regex_detection", patterns=["secret"], fold=fold)
        for size in SIZES:
            assert ((await released(rails, text, size)).violation is not None) == stopped


async def test_a_mark_that_a_folding_pattern_names_is_not_skipped() -> None:
    rails = detectors("regex check output", "regex_detection", patterns=[r"a\*b", "x_y"], fold=True)
    for size in SIZES:
        assert (await released(rails, "a\u200b*b", size)).violation is not None
        assert (await released(rails, "x_\u00ady", size)).violation is not None
        assert (await released(rails, "ab xy", size)).violation is None


@pytest.mark.parametrize("size", [1, 7, 5000])
@pytest.mark.parametrize("skipped", ["\u200b", "\u0336", "*", " ", "\u200b\u00ad"])
async def test_endless_skipped_characters_inside_of_what_may_be_a_term_block_and_hold_back_no_more_than_their_bound(
    skipped: str, size: int
) -> None:
    reader = Reader()
    guard = terms("terms check output").guard(turn(), reader.release, reader.block)
    assert guard is not None
    text = "see pur" + skipped * 5000 if skipped != " " else "see purple" + skipped * 5000
    for delta in cut(text, [size] * len(text)):
        reader.push(guard, delta)
        if reader.violation is not None:
            break
        assert size > SLICE or len(reader.pushed) - reader.consumed <= size + SKIPPED_AT_ONCE + 2 * len(
            "purple dragon "
        )
    await guard.finish()
    await guard.aclose()
    assert reader.violation is not None
    assert reader.text == "see "


async def test_a_delta_that_goes_on_behind_endless_skipped_characters_is_blocked_like_its_parts() -> None:
    text = "pur" + "\u200b" * 300 + "x, and on"
    for size in (1, 7, len(text)):
        reader = await released(terms("terms check output"), text, size)
        assert reader.text == ""
        assert reader.violation is not None


async def test_endless_skipped_characters_elsewhere_are_nobodys_concern() -> None:
    text = "see \n" + "\u200b" * 3000 + "\n" + "*" * 3000 + " ok " + " " * 3000 + "end"
    for size in (1, 7, 5000):
        reader = await released(terms("terms check output"), text, size)
        assert (reader.text, reader.violation) == (text, None)


async def test_what_is_masked_in_front_of_endless_skipped_characters_is_the_beginning_of_the_term() -> None:
    text = "see pur" + "\u200b" * 600 + "ple dragon, purple dragon"
    wanted = "see ***" + "\u200b" * 600 + "ple dragon, ***"
    for size in (1, 7, 5000):
        assert (await released(terms("mask terms on output"), text, size)).text == wanted


def test_a_break_is_put_where_skipped_characters_outweigh_the_others() -> None:
    folding = Folding()
    assert BREAK not in folding.fold("a\u200b" * 2000)
    assert folding.fold("a" + "\u200b" * (SKIPPED_AT_ONCE + 1) + "b") == f"a{BREAK}b"
    assert folding.fold("a" + "\u200b" * SKIPPED_AT_ONCE + "b") == "ab"
    assert BREAK in folding.fold("a\u200b\u200b" * 300)


async def test_an_earlier_attempts_text_is_folded_as_context() -> None:
    for primed, stopped in (("it's a pur\u200b", False), ("x\u200b", False), ("x ", True)):
        reader = Reader()
        guard = terms("terms check output").guard(turn(), reader.release, reader.block)
        assert guard is not None
        guard.prime(primed)
        await run(guard, reader, ["purple dra", "gon"])
        assert (reader.violation is not None) == stopped


async def test_input_rails_mask_folded_matches_where_they_stand() -> None:
    rails = RailsEngine(
        RailsConfig.from_content(
            config={
                "rails": {
                    "input": {"flows": ["mask pii on input"]},
                    "config": {"pii_patterns": {"input": {"entities": ["card"]}}},
                }
            }
        )
    )
    messages, violation = await rails.check_input(turn(user="card 4111\u200b 1111\u00a01111 1111, «ﬁ»"))
    assert (messages[0]["content"], violation) == ("card [card], «ﬁ»", None)


def test_every_look_alike_folds_to_its_character_and_its_other_case_folds_too() -> None:
    folding = Folding()
    for character, plain in CONFUSABLES.items():
        assert plain.isascii()
        assert folding.fold(f"{character}.") == (f"{plain}." if plain not in "*~" else ".")
        other = character.swapcase()
        assert not plain.isalpha() or len(other) > 1 or folding.fold(other).isascii()
