"""Prompts: which one a task uses, and what it says with its variables filled in.

A template sees `user_input`, `bot_response`, `history`, `general_instructions`, `sample_conversation` and the
request's context. A variable that nobody gave is an error when it is printed, so that a judge never reads a gap.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import Field, PrivateAttr, field_validator, model_validator

from railstream.config.base import Misplaced, Section, nearest
from railstream.config.output_parsers import OUTPUT_PARSERS, Parser, parser_of
from railstream.errors import RailError
from railstream.messages import text_of

Message = Mapping[str, Any]

_ROLES: Final = {"system": "system", "user": "user", "assistant": "assistant", "bot": "assistant"}
_ONE_VARIABLE = re.compile(r"\{\{\s*(\w+)\s*\}\}")


class MessageTemplate(Section):
    type: str
    content: str

    @field_validator("type")
    @classmethod
    def _known_role(cls, value: str) -> str:
        if value not in _ROLES:
            raise ValueError(f"{value!r} is no message type{nearest(value, _ROLES)}")
        return value


class Prompt(Section):
    """What a task asks its model."""

    task: str
    content: str | None = None
    messages: tuple[MessageTemplate, ...] | None = None
    models: tuple[str, ...] = ()
    """``<engine>`` or ``<engine>/<model>`` that it is for. Empty: for any."""
    output_parser: str | None = None
    max_length: Annotated[int, Field(ge=1)] | None = 16000
    """Characters. A longer prompt loses its oldest history; without history it is an error."""
    mode: str = "standard"
    stop: tuple[str, ...] = ()
    max_tokens: Annotated[int, Field(ge=1)] | None = None

    _templates: tuple[jinja2.Template, ...] = PrivateAttr(default=())

    @field_validator("output_parser")
    @classmethod
    def _known_parser(cls, value: str | None) -> str | None:
        if value is not None and value not in OUTPUT_PARSERS:
            raise ValueError(f"{value!r} is no output parser{nearest(value, OUTPUT_PARSERS)}")
        return value

    @model_validator(mode="after")
    def _compiles(self) -> Prompt:
        if bool(self.content) == bool(self.messages):
            raise ValueError("exactly one of `content` and `messages` must be given")
        environment = _environment()
        compiled: list[jinja2.Template] = []
        for location, source in self._sources():
            try:
                compiled.append(environment.from_string(source))
            except jinja2.TemplateSyntaxError as error:
                raise Misplaced([(location, f"bad template, line {error.lineno}: {error.message}")]) from error
        self._templates = tuple(compiled)
        return self

    def _sources(self) -> list[tuple[tuple[str | int, ...], str]]:
        if self.content:
            return [(("content",), self.content)]
        return [(("messages", index, "content"), item.content) for index, item in enumerate(self.messages or ())]

    @property
    def parser(self) -> Parser:
        return parser_of(self.task, self.output_parser)

    def render(self, variables: Mapping[str, Any], history: Sequence[Message] = ()) -> list[dict[str, Any]]:
        """OpenAI messages. ``history``: the conversation's messages, oldest first.

        Raises:
            RailError: a variable is missing, or the prompt is too long even without history.
        """
        turns = History(history)
        while True:
            messages = self._render(variables, turns)
            length = sum(_length(message["content"]) for message in messages)
            if self.max_length is None or length <= self.max_length:
                return messages
            if not turns:
                raise RailError(
                    f"the prompt of the task {self.task!r} has {length} characters without any history; "
                    f"its max_length is {self.max_length}"
                )
            turns = History(turns[1:])

    def _render(self, variables: Mapping[str, Any], turns: History) -> list[dict[str, Any]]:
        given = {**variables, "history": turns}
        roles = [_ROLES[item.type] for item in self.messages] if self.messages else ["user"]
        messages = []
        for role, template, (_, source) in zip(roles, self._templates, self._sources(), strict=True):
            content = self._fill(template, source, given)
            if content and (not isinstance(content, str) or content.strip()):
                messages.append({"role": role, "content": content})
        return messages

    def _fill(self, template: jinja2.Template, source: str, given: Mapping[str, Any]) -> Any:
        alone = _ONE_VARIABLE.fullmatch(source.strip())
        if alone and isinstance(given.get(alone[1]), list) and alone[1] != "history":
            return given[alone[1]]  # content parts, images among them, stay what they are
        try:
            return template.render(given)
        except jinja2.TemplateError as error:
            raise RailError(f"the prompt of the task {self.task!r} cannot be filled in: {error.message}") from error


class History(list[Message]):
    """A conversation. Printed, it is a transcript: ``User: …`` and ``Assistant: …``, a line each."""

    def __str__(self) -> str:
        return user_assistant_sequence(self)


def user_assistant_sequence(messages: Sequence[Message]) -> str:
    names = {"user": "User", "assistant": "Assistant"}
    return "\n".join(
        f"{names[message['role']]}: {_plain(message.get('content'))}"
        for message in messages
        if message.get("role") in names
    )


def to_chat_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    return [{"role": message.get("role"), "content": message.get("content")} for message in messages]


def first_turns(messages: Sequence[Message], count: int) -> History:
    """The messages up to the end of the ``count``-th user turn."""
    starts = [index for index, message in enumerate(messages) if message.get("role") == "user"]
    return History(messages[: starts[count]] if len(starts) > count else messages)


def last_turns(messages: Sequence[Message], count: int) -> History:
    """The messages from the ``count``-th user turn from the end on."""
    starts = [index for index, message in enumerate(messages) if message.get("role") == "user"]
    return History(messages[starts[-count] :] if count and len(starts) >= count else messages if count else ())


def choose(prompts: Sequence[Prompt], task: str, model: str, mode: str = "standard") -> Prompt | None:
    """The prompt of a task that fits ``<engine>/<model>`` best; among equals, the last."""
    best, best_score = None, 0.0
    for prompt in prompts:
        if prompt.task != task or prompt.mode not in (mode, "standard"):
            continue
        score = _score(prompt.models, model.lower()) * (1 if prompt.mode == mode else 0.5)
        if score and score >= best_score:
            best, best_score = prompt, score
    return best


def _score(patterns: Sequence[str], model: str) -> float:
    """How well a prompt's ``models`` fit: NeMo's ranking, taken at the first pattern that fits at all."""
    if not patterns:
        return 0.2
    path = model.partition("/")[2] or model
    for pattern in patterns:
        if pattern == model:
            return 1
        if "/" in pattern and path.startswith(pattern):
            return 0.8 if pattern == path else 0.9
        if model.startswith(f"{pattern}/"):
            return 0.5
        if model.endswith(f"/{pattern}"):
            return 0.8
        if pattern in model:
            return 0.4
    return 0


class _Unset(jinja2.Undefined):
    """May be asked whether it is there (`{% if relevant_chunks %}`), but not be printed."""

    __slots__ = ()

    def __str__(self) -> str:
        raise jinja2.UndefinedError(f"{self._undefined_name!r} is not given")


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        undefined=_Unset, finalize=lambda value: "" if value is None else value, keep_trailing_newline=False
    )
    for function in (user_assistant_sequence, to_chat_messages, first_turns, last_turns):
        environment.filters[function.__name__] = function
    return environment


def _plain(content: Any) -> str:
    if not isinstance(content, list):
        return "" if content is None else str(content)
    images = any(isinstance(part, dict) and part.get("type") == "image_url" for part in content)
    return text_of({"content": content}) + (" [+ image]" if images else "")


def _length(content: Any) -> int:
    return len(_plain(content))
