"""Command-line options made from the fields of a settings class, the one place that defines them.

Values travel as text to `railstream.settings.load`, which validates them like the environment's.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from railstream.settings import PREFIX, Settings, Unit, load

SHORT = {"config": "-c", "port": "-p"}
CHOICES = {"request_log": "all|failed|off|SHARE", "redis_url": "URL", "pages": "metrics,docs,playground|none"}
METAVARS: dict[Any, str] = {Path: "PATH", str: "TEXT"}

S = TypeVar("S", bound=Settings)


def settings_command(kind: type[S]) -> Callable[[Callable[[S], int]], Callable[..., None]]:
    """Turn ``run(settings) -> exit code`` into a command with an option for each field of ``kind``."""

    def decorate(run: Callable[[S], int]) -> Callable[..., None]:
        @functools.wraps(run)
        def command(**given: Any) -> None:
            raise typer.Exit(run(load(kind, **given)))

        options = [_option(name, kind.model_fields[name]) for name in _own_first(kind)]
        command.__annotations__ = {option.name: option.annotation for option in options}
        vars(command)["__signature__"] = inspect.Signature(options)
        return command

    return decorate


def _option(name: str, field: FieldInfo) -> inspect.Parameter:
    flag = "--" + name.replace("_", "-")
    is_switch = field.annotation is bool
    info = typer.Option(
        None,
        f"{flag}/--no-{flag[2:]}" if is_switch else flag,
        *([SHORT[name]] if name in SHORT else []),
        help=_help(name, field),
        metavar=None if is_switch else _metavar(name, field),
        show_default=False,
    )
    annotation = bool | None if is_switch else str | None
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=info, annotation=annotation)


def _help(name: str, field: FieldInfo) -> str:
    default = ",".join(field.default) if isinstance(field.default, tuple) else field.default
    default = "" if default in (None, "") else f", default {default}"
    return f"{field.description or ''} [{PREFIX}{name.upper()}{default}]".lstrip()


def _own_first(kind: type[Settings]) -> list[str]:
    """The fields of ``kind``, those that it defines itself before those that it inherits."""
    defining = [base for base in kind.__mro__ if issubclass(base, Settings)]
    return sorted(kind.model_fields, key=lambda name: max(i for i, b in enumerate(defining) if name in b.model_fields))


def _metavar(name: str, field: FieldInfo) -> str:
    """What stands for the value: a number's unit, the words of a choice, else the kind of value."""
    annotation, metadata = field.annotation, list(field.metadata)
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        metadata += more
    for one in metadata:
        if isinstance(one, Unit):
            return one
    if name in CHOICES:
        return CHOICES[name]
    if get_origin(annotation) is Literal:
        return "|".join(get_args(annotation))
    return METAVARS.get(annotation, "TEXT")
