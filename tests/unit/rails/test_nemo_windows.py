"""Rolling windows beside those of NeMo Guardrails 0.24.1, recorded by `harness/nemo_windows.py`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from harness.nemo_windows import Windows, windows_of
from railstream_engine.rails.output.windows import RollingBuffer
from unit.rails.guarding import Reader, engine, settle, turn

RECORDED: list[tuple[int, int, int, Windows]] = json.loads(
    Path(__file__).with_name("nemo_windows.json").read_text("utf-8")
)


async def test_the_buffer_cuts_every_recorded_stream_as_nemo_cut_it() -> None:
    assert len(RECORDED) > 100
    for chunk, context, deltas, windows in RECORDED:
        found = await windows_of(RollingBuffer(context, chunk), deltas)
        assert found == [tuple(window) for window in windows], (chunk, context, deltas)


@pytest.mark.parametrize("stream_first", [False, True])
async def test_a_judge_sees_nemos_windows_with_as_much_released_at_each_verdict(stream_first: bool) -> None:
    for chunk, context, deltas, windows in RECORDED:
        settings = {"enabled": True, "strategy": "rolling", "chunk_size": chunk, "context_size": context}
        found = await judged(settings | {"stream_first": stream_first, "max_concurrent_checks": 1}, deltas)
        assert found == as_nemo(windows, stream_first), (chunk, context, deltas)


async def judged(streaming: Mapping[str, Any], deltas: int) -> list[tuple[str, str]]:
    """Each window's text, and what had been released when its verdict came."""
    reader, found = Reader(), list[tuple[str, str]]()

    async def ask(_: str, messages: Sequence[Mapping[str, Any]], **__: Any) -> str:
        await settle()
        found.append((str(messages[-1]["content"]), reader.text))
        return "no"

    prompts = [{"task": "self_check_output", "content": "{{ bot_response }}|"}]
    rails = engine({"output": {"flows": ["self check output"], "streaming": streaming}}, prompts=prompts)
    guard = rails.guard(turn(ask), reader.release, reader.block, streaming=True)
    for number in range(deltas):
        reader.push(guard, f"{number} ")
        for _ in range(4):
            await settle()
    await guard.finish()
    await guard.aclose()
    assert reader.text == reader.pushed
    return found


def as_nemo(windows: Windows, stream_first: bool) -> list[tuple[str, str]]:
    """What NeMo has shown at each verdict; its last window may have nothing new."""
    found, shown = [], 0
    for start, end, new in windows:
        before, shown = shown, shown + new
        found.append((text(start, end) + "|", text(0, shown if stream_first else before)))
    return found


def text(start: int, end: int) -> str:
    return "".join(f"{number} " for number in range(start, end))
