"""Google's event stream in shapes that its API is known to send, and the testing upstream does not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from railstream.errors import CallError
from railstream_engine.providers.google.events import ContentReader, token_count
from railstream_engine.providers.port import Delta, Finish, Part, ResponseInfo, TokenCount


def fed(*chunks: dict[str, Any]) -> tuple[list[Part], ContentReader]:
    reader = ContentReader()
    return [part for chunk in chunks for part in reader.feed(b"data: %b\n\n" % msgspec.json.encode(chunk))], reader


def saying(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": list(parts), "role": "model"}, "index": 0, **more}]}


def test_a_recorded_answer_is_read_whole() -> None:
    """As published by somebody who asked a 2.5 model: counts of thoughts from the first chunk on, no `[DONE]`."""
    usage = {"promptTokenCount": 5, "candidatesTokenCount": 39, "totalTokenCount": 230, "thoughtsTokenCount": 186}
    shared = {"modelVersion": "models/gemini-2.5-flash", "responseId": "AdVR"}
    parts, reader = fed(
        {**saying({"text": "English: Hi. "}), "usageMetadata": usage, **shared},
        {
            **saying({"text": "Ciao"}, finishReason="STOP"),
            "usageMetadata": usage | {"candidatesTokenCount": 44, "totalTokenCount": 235},
            **shared,
        },
    )
    assert [part.content for part in parts if isinstance(part, Delta)] == ["English: Hi. ", "Ciao"]
    counts = [part for part in parts if isinstance(part, TokenCount)]
    assert [(count.input_tokens, count.output_tokens, count.reasoning_tokens) for count in counts] == [
        (5, 225, 186), (5, 230, 186),
    ]  # fmt: skip
    assert counts[-1].raw["total_tokens"] == 235
    assert [part for part in parts if isinstance(part, ResponseInfo)] == [
        ResponseInfo("AdVR", "models/gemini-2.5-flash")
    ]
    assert reader.complete


def test_a_call_and_the_end_in_two_chunks_are_one_answer() -> None:
    """Newer models end with an empty text after the call; the first chunk's usage names no tokens."""
    call = {"functionCall": {"name": "weather", "args": {"city": "Bern"}}, "thoughtSignature": "c2ln"}
    parts, reader = fed(
        {**saying(call), "usageMetadata": {"trafficType": "ON_DEMAND"}},
        {
            **saying({"text": ""}, finishReason="STOP"),
            "usageMetadata": {"promptTokenCount": 107, "candidatesTokenCount": 31, "thoughtsTokenCount": 148},
        },
    )
    delta, count, finish = parts
    assert isinstance(delta, Delta)
    (told,) = msgspec.json.decode(delta.tools)
    assert told["function"] == {"name": "weather", "arguments": '{"city":"Bern"}'}
    assert told["extra_content"] == {"google": {"thought_signature": "c2ln"}}
    assert told["id"]
    assert isinstance(count, TokenCount)
    assert (count.input_tokens, count.output_tokens) == (107, 179)
    assert isinstance(finish, Finish)
    assert (finish.reason, reader.complete) == ("tool_calls", True)


def test_calls_without_ids_get_their_own() -> None:
    part = {"functionCall": {"name": "f"}}
    parts, _ = fed({**saying(part, part), "responseId": "r1"}, {**saying(part), "responseId": "r1"})
    told = [msgspec.json.decode(part.tools)[0] for part in parts if isinstance(part, Delta)]
    assert [call["index"] for call in told] == [0, 1, 2]
    assert len({call["id"] for call in told}) == 3
    assert [call["function"]["arguments"] for call in told] == ["{}"] * 3


def test_an_end_without_content_is_an_end() -> None:
    _, reader = fed(saying({"text": "a"}), {"candidates": [{"finishReason": "STOP"}]})
    assert reader.complete


def test_a_signature_without_a_text_is_told_and_adds_nothing() -> None:
    (delta,), _ = fed(saying({"text": "", "thoughtSignature": "c2ln"}))
    assert isinstance(delta, Delta)
    assert delta.content == ""
    assert msgspec.json.decode(delta.raw) == {"extra_content": {"google": {"thought_signature": "c2ln"}}}


@pytest.mark.parametrize("form", ["%b", "[%b]", "[%b\n]\n"])
def test_an_error_that_comes_as_bare_json_is_an_error_and_no_truncation(form: str) -> None:
    """Google's SDK knows errors in a stream that are not framed as events."""
    reader = ContentReader()
    reader.feed(b"data: %b\n\n" % msgspec.json.encode(saying({"text": "a"})))
    error = b'{\n  "error": {\n    "code": 503,\n    "message": "overloaded",\n    "status": "UNAVAILABLE"\n  }\n}'
    reader.feed(form.encode() % error)
    with pytest.raises(CallError) as caught:
        reader.end()
    assert (caught.value.code, caught.value.provider_code) == ("overloaded", "UNAVAILABLE")


def test_parts_that_are_not_known_are_left_out() -> None:
    parts, _ = fed(saying({"executableCode": {"code": "1"}}, {"text": "a"}, {"inlineData": {}}))
    assert [part.content for part in parts if isinstance(part, Delta)] == ["a"]


def test_what_tools_read_on_the_providers_side_is_input() -> None:
    count = token_count({"promptTokenCount": 10, "toolUsePromptTokenCount": 5, "cachedContentTokenCount": 4})
    assert (count.input_tokens, count.cached_input_tokens, count.output_tokens) == (15, 4, 0)
