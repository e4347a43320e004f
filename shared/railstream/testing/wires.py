"""Which wire is spoken at which path."""

from __future__ import annotations

from railstream.testing.content import ContentWire
from railstream.testing.frames import ChatWire
from railstream.testing.gemini_chat import GeminiChatWire
from railstream.testing.messages import MessagesWire
from railstream.testing.responses import ResponsesWire
from railstream.testing.wire import Wire


def wire_of(path: str) -> Wire | None:
    """Of a path without its version; ``None`` where no model is asked."""
    match path:
        case "/chat/completions":
            return ChatWire()
        case "/openai/chat/completions":
            return GeminiChatWire()
        case "/messages":
            return MessagesWire()
        case "/responses":
            return ResponsesWire()
    return ContentWire() if path.startswith("/models/") and ":" in path else None
