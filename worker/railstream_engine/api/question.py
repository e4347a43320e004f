"""What a caller asks: a prompt or messages, and options, checked before anything is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from railstream.config import RailsConfig
from railstream.errors import InvalidRequestError, StreamingNotSupportedError

from railstream_engine.api.options import GenerationOptions, read_options

ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool", "function", "context"})
STREAMING_DISABLED: Final = (
    "stream_async() cannot be used when output rails are configured but rails.output.streaming.enabled is False. "
    "Either set rails.output.streaming.enabled to True in your configuration, or use generate_async() instead of "
    "stream_async()."
)


@dataclass(frozen=True, slots=True)
class Question:
    """``context`` is what the messages of the role ``context`` hold; rails and actions see it, the model does not."""

    messages: Sequence[Mapping[str, Any]]
    options: GenerationOptions
    is_prompt: bool = False
    wants_response: bool = False
    """Whether the answer is a `GenerationResponse`, because options or a state were given."""
    has_state: bool = False
    context: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rails_options(self) -> dict[str, Any]:
        """The options as rails read them."""
        return self.options.model_dump(exclude_unset=True, include={"rails", "log"})


def read_question(
    prompt: str | None,
    messages: Sequence[Mapping[str, Any]] | None,
    options: GenerationOptions | Mapping[str, Any] | None,
    state: object = None,
    *,
    may_be_empty: bool = False,
) -> Question:
    """Raises ``InvalidRequestError``. ``may_be_empty``: the answer comes from elsewhere, nothing need be asked."""
    if state:
        raise InvalidRequestError("state is Colang's; give the conversation in messages", param="state")
    if (prompt is None) == (messages is None) and not (may_be_empty and prompt is None):
        given = "neither" if prompt is None else "both"
        raise InvalidRequestError(f"give either prompt or messages; got {given}", param="messages")
    read = read_options(options)
    has_state = state is not None
    wants_response = options is not None or has_state
    if prompt is not None:
        if not isinstance(prompt, str):
            raise InvalidRequestError(f"prompt must be a string, got {type(prompt).__name__}", param="prompt")
        return Question([{"role": "user", "content": prompt}], read, True, wants_response, has_state)
    checked = _checked(messages) if messages is not None else []
    if not checked and not may_be_empty:
        raise InvalidRequestError("messages must not be empty", param="messages")
    context: dict[str, Any] = {}
    for message in checked:
        if message["role"] == "context":
            context |= message["content"]
    said = [message for message in checked if message["role"] != "context"]
    return Question(said, read, False, wants_response, has_state, context)


def _checked(messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Sequence):
        raise InvalidRequestError(f"messages must be a list, got {type(messages).__name__}", param="messages")
    for number, message in enumerate(messages):
        place = f"messages[{number}]"
        if not isinstance(message, Mapping):
            raise InvalidRequestError(f"{place} must be a mapping, got {type(message).__name__}", param=place)
        role = message.get("role")
        if role not in ROLES:
            raise InvalidRequestError(f"{place}.role is {role!r}; known are {', '.join(sorted(ROLES))}", param=place)
        if role == "context" and not isinstance(message.get("content"), Mapping):
            raise InvalidRequestError(f"{place}.content of the role context must be a mapping", param=place)
    return messages


def refuse_unstreamable(config: RailsConfig, options: GenerationOptions) -> None:
    """Raises ``StreamingNotSupportedError`` when output rails would run and the config does not stream them."""
    output = config.rails.output
    if not output.flows or output.streaming.enabled:
        return
    rails = options.rails
    if config.railstream.allow_request_rails is not False and rails is not None:
        wanted = "output" in rails if isinstance(rails, list) else rails.output
        if not wanted:
            return
    raise StreamingNotSupportedError(STREAMING_DISABLED, param="rails.output.streaming.enabled")
