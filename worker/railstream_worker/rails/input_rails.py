"""Check what the user says before the model sees it, and mask what it must not see.

What is judged is every user message since the last answer, so that none slips by in front of another. Rails that
mask rewrite the earlier ones too: the client sends the conversation again as it was typed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from railstream_worker.rails.local_judges import IncrementalJudge
from railstream_worker.rails.panel import Panel
from railstream_worker.rails.port import Turn, Violation

Message = Mapping[str, Any]


async def check_messages(panel: Panel, turn: Turn) -> tuple[Sequence[Message], Violation | None]:
    """The messages to generate from, and what stopped one of them."""
    messages = list(turn.messages)
    masking = [judge for judge in panel.judges if isinstance(judge, IncrementalJudge) and judge.masks]
    newest = _since_last_answer(messages)
    for index, message in enumerate(messages):
        text = text_of(message)
        if message.get("role") != "user" or not text:
            continue
        if index >= newest:
            ruling = await panel.rule(text, turn)
            if ruling.violation is not None:
                return turn.messages, ruling.violation
            masked = ruling.text
        else:
            masked = text
            for judge in masking:
                masked = await judge.masked(masked)
        if masked != text:
            messages[index] = _with_text(message, masked)
    return messages, None


def _since_last_answer(messages: Sequence[Message]) -> int:
    """The index of the first message that no answer follows."""
    answers = [index for index, message in enumerate(messages) if message.get("role") == "assistant"]
    return answers[-1] + 1 if answers else 0


def text_of(message: Message) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(str(part.get("text", "")) for part in parts if isinstance(part, Mapping))


def _with_text(message: Message, text: str) -> Message:
    """The message saying ``text``; of several text parts the first says all of it."""
    content = message.get("content")
    if isinstance(content, str):
        return {**message, "content": text}
    parts: list[Any] = []
    for part in content if isinstance(content, list) else []:
        if not isinstance(part, Mapping) or "text" not in part:
            parts.append(part)
        elif text:
            parts.append({**part, "text": text})
            text = ""
    return {**message, "content": parts}
