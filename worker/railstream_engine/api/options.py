"""Generation options, as NeMo Guardrails writes them, read strictly: an unknown one is an error that names it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from railstream.errors import InvalidRequestError

NOT_SERVED = "there is no Colang runtime behind it"


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LogOptions(_Options):
    """What of the work is told with the answer."""

    activated_rails: bool = False
    llm_calls: bool = False
    internal_events: Literal[False] = False
    colang_history: Literal[False] = False

    @property
    def wanted(self) -> bool:
        return self.activated_rails or self.llm_calls


class RailsOptions(_Options):
    """Which rails run: all, none, or the flows that are named."""

    input: bool | list[str] = True
    output: bool | list[str] = True
    retrieval: bool | list[str] = True
    dialog: bool = True
    tool_input: bool | list[str] = True
    tool_output: bool | list[str] = True


class GenerationOptions(_Options):
    """``llm_params`` go to the model as they are. ``llm_output`` is accepted, and never filled, as in NeMo."""

    rails: RailsOptions | list[str] | None = None
    llm_params: dict[str, Any] | None = None
    llm_output: bool = False
    output_vars: Literal[False] | None = None
    log: LogOptions = LogOptions()


def read_options(given: GenerationOptions | Mapping[str, Any] | None) -> GenerationOptions:
    """Raises ``InvalidRequestError`` with the option's place in ``param``."""
    if isinstance(given, GenerationOptions):
        return given
    if given is not None and not isinstance(given, Mapping):
        raise InvalidRequestError(f"options must be a mapping, got {type(given).__name__}", param="options")
    try:
        return GenerationOptions.model_validate(dict(given or {}))
    except ValidationError as error:
        raise _explained(error) from error


def _explained(error: ValidationError) -> InvalidRequestError:
    first = error.errors(include_url=False)[0]
    names = [part for part in first["loc"] if isinstance(part, str) and not part.startswith(("list[", "RailsOptions"))]
    place = ".".join(("options", *names))
    if first["type"] == "extra_forbidden":
        known: type[_Options] = GenerationOptions
        if len(names) > 1:
            known = LogOptions if names[0] == "log" else RailsOptions
        near = difflib.get_close_matches(names[-1], known.model_fields, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known.model_fields)}"
        return InvalidRequestError(f"{place} is not an option{hint}", param=place)
    if names and names[-1] in ("internal_events", "colang_history", "output_vars"):
        return InvalidRequestError(f"{place} cannot be had here: {NOT_SERVED}", param=place)
    return InvalidRequestError(f"{place}: {first['msg']}; got {first['input']!r}", param=place)
