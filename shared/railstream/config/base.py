"""The base of every section of a rails config: frozen, and strict about keys it does not know.

A key without a value (`flows:` and nothing after it) means the default, as in NeMo Guardrails' own validators.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Location = tuple[str | int, ...]
Seconds = Annotated[float, Field(gt=0)]


class Misplaced(ValueError):
    """Something wrong at places inside the section that is being validated: ``[(location, message), …]``."""

    def __init__(self, problems: Sequence[tuple[Location, str]]) -> None:
        super().__init__("; ".join(message for _, message in problems))
        self.problems = tuple(problems)


class Section(BaseModel):
    """A mapping of the config file."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, protected_namespaces=())

    refused: ClassVar[Mapping[str, str]] = {}
    """Keys of NeMo Guardrails that are not supported here, and why."""

    @model_validator(mode="before")
    @classmethod
    def _known_keys_only(cls, data: Any) -> Any:
        if isinstance(data, BaseModel):
            return data
        if not isinstance(data, Mapping):
            raise ValueError(f"must be a mapping of keys, not {type(data).__name__}")
        problems = [((key,), cls._why_not(key)) for key in data if key not in cls.model_fields]
        problems = [problem for problem in problems if not (problem[0][0] in cls.refused and not data[problem[0][0]])]
        if problems:
            raise Misplaced(problems)
        return {key: value for key, value in data.items() if value is not None and key in cls.model_fields}

    @classmethod
    def _why_not(cls, key: Any) -> str:
        if key in cls.refused:
            return f"is not supported here: {cls.refused[key]}"
        return f"unknown key{nearest(str(key), cls.model_fields)}"


def nearest(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the nearest of the known names, or what there is, or nothing."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known are {', '.join(names)}" if 0 < len(names) <= 20 else ""


def unsupported(reason: str) -> AfterValidator:
    """For a switch of NeMo Guardrails that is accepted as long as it is off."""

    def refuse(value: Any) -> Any:
        if value:
            raise ValueError(f"{value!r} is not supported here: {reason}")
        return value

    return AfterValidator(refuse)
