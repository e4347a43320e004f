"""Messages of a session: frozen, each with its own id, and how they look to a model."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final


@dataclass(frozen=True, slots=True)
class SystemContent:
    """What a model is told before the conversation."""

    system: str
    role: ClassVar[str] = "system"

    @property
    def text(self) -> str:
        return self.system


@dataclass(frozen=True, slots=True)
class InstructionContent:
    """What a user asks. ``context`` stands before it in the same message, and is seen by the model as it is here."""

    instruction: str
    context: str = ""
    role: ClassVar[str] = "user"

    @property
    def text(self) -> str:
        return f"{self.context}\n\n{self.instruction}" if self.context else self.instruction


@dataclass(frozen=True, slots=True)
class AssistantResponseContent:
    """What a model answered."""

    assistant_response: str
    role: ClassVar[str] = "assistant"

    @property
    def text(self) -> str:
        return self.assistant_response


Content = SystemContent | InstructionContent | AssistantResponseContent
_KINDS: Final[Mapping[str, type[Content]]] = {
    "system": SystemContent,
    "instruction": InstructionContent,
    "assistant_response": AssistantResponseContent,
}


@dataclass(frozen=True, slots=True)
class Message:
    """``metadata`` of an answer: ``model``, ``finish_reason``, ``usage``; and ``partial`` where it was cut."""

    content: Content
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: float = field(default_factory=time.time)
    """Unix seconds."""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def role(self) -> str:
        return self.content.role

    @property
    def text(self) -> str:
        return self.content.text

    @property
    def partial(self) -> bool:
        """The answer was cut: by an error, or because somebody left."""
        return bool(self.metadata.get("partial"))

    @property
    def chat_msg(self) -> dict[str, Any]:
        """As a chat completion's request has it."""
        return {"role": self.role, "content": self.text}

    def to_dict(self) -> dict[str, Any]:
        kind = next(name for name, kind in _KINDS.items() if isinstance(self.content, kind))
        fields = {name: getattr(self.content, name) for name in self.content.__dataclass_fields__ if name != "role"}
        content = {"kind": kind, **fields}
        return {"id": self.id, "created": self.created, "content": content, "metadata": dict(self.metadata)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Message:
        content = dict(data["content"])
        kind = _KINDS[content.pop("kind")]
        return cls(kind(**content), data["id"], data["created"], data["metadata"])


def prepare_messages_for_chat(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """The messages as a chat completion's request has them, oldest first."""
    return [message.chat_msg for message in messages]
