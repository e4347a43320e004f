"""Flows: how a rail is named in a config, and the table of those that are built in.

A flow that is not in the table names a custom action: `check prices` is the action `check_prices`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

Stage = Literal["input", "output"]
Kind = Literal["incremental", "window", "whole", "tool"]
"""``incremental``: decides each character as soon as its own text allows. ``window``: judges a chunk of deltas with
the context before it. ``whole``: needs the complete text. ``tool``: looks at a complete tool call. Input rails see the
complete message, whatever their kind."""

REFUSE: Final = "refuse to respond"
UNKNOWN_ANSWER: Final = "inform answer unknown"

_ARGUMENT = re.compile(r"""\$(?P<name>[A-Za-z_]\w*)=(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>[^\s$"']+))""")


class Flow(str):
    """A flow exactly as configured (it *is* that text), with its ``name`` and ``arguments`` taken apart.

    ``content safety check output $model=content_safety`` → name ``content safety check output``,
    arguments ``{"model": "content_safety"}``.
    """

    name: str
    arguments: Mapping[str, str]

    def __new__(cls, text: str) -> Flow:
        flow = super().__new__(cls, text)
        flow.name, flow.arguments = _parse(text)
        return flow

    @property
    def text(self) -> str:
        return str(self)

    @property
    def action(self) -> str:
        """Name of the Python action that a custom flow stands for."""
        return self.name.replace(" ", "_")

    @property
    def action_names(self) -> tuple[str, ...]:
        """Names of the actions that run for this flow: in NeMo Guardrails' flows, and by the flow's own name."""
        built_in = self.built_in
        name = self.name.replace(" ", "_")
        return tuple(dict.fromkeys((name, NEMO_ACTIONS.get(built_in.name, name) if built_in else name)))

    @property
    def model(self) -> str | None:
        """The model type that ``$model=`` names."""
        return self.arguments.get("model")

    @property
    def built_in(self) -> BuiltIn | None:
        return BUILT_IN.get(self.name.replace("_", " "))

    @property
    def prompt_task(self) -> str | None:
        """The task of the prompt that this flow asks its model with; ``None`` when it asks none."""
        built_in = self.built_in
        if built_in is None or built_in.prompt is None:
            return None
        if "variant" in self.arguments:
            return f"{built_in.prompt} $variant={self.arguments['variant']}"
        return f"{built_in.prompt} $model={self.model}" if built_in.model == "$model" else built_in.prompt

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema())


def _parse(text: str) -> tuple[str, Mapping[str, str]]:
    head, dollar, _ = text.partition("$")
    name = " ".join(head.split())
    if not name or not text.isprintable() or (dollar and not head[-1].isspace()):
        raise ValueError(f"{text!r} is no flow: expected `name of the flow $argument=value`")
    arguments: dict[str, str] = {}
    for part in re.split(r"\s+(?=\$)", text[len(head) :].strip()):
        if not part:
            continue
        match = _ARGUMENT.fullmatch(part)
        if match is None:
            raise ValueError(f"{text!r} is no flow: {part!r} is not `$argument=value`")
        if match["name"] in arguments:
            raise ValueError(f"{text!r} names ${match['name']} twice")
        value = match["bare"] or match["double"] or match["single"] or ""
        if not value.strip():
            raise ValueError(f"{text!r}: ${match['name']} has no value")
        arguments[match["name"]] = value
    return name, MappingProxyType(arguments)


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A built-in flow and what it needs."""

    name: str
    stage: Stage
    kind: Kind
    prompt: str | None = None
    """Task of the prompt that the config must give, before the flow's ``$model=…`` or ``$variant=…``."""
    model: str | None = None
    """Model type that must be configured; ``$model``: the one that the flow's argument names."""
    section: str | None = None
    """Section of ``rails.config`` that must say what to look for."""
    extra: str | None = None
    """Extra of this distribution that it needs."""
    rewrites: bool = False
    refusal: str = REFUSE
    """Which of the config's ``bot_messages`` is said instead of the text."""


def _both(name: str, kind: Kind, *, prompt: str | None = None, **needs: Any) -> list[BuiltIn]:
    """A flow for each stage, where the last word of its name, and of its prompt's task, is the stage."""
    stages: tuple[Stage, ...] = ("input", "output")
    return [
        BuiltIn(f"{name} {stage}", stage, kind, prompt=f"{prompt}_{stage}" if prompt else None, **needs)
        for stage in stages
    ]


_TABLE: Final = (
    *_both("regex check", "incremental", section="regex_detection"),
    *_both("terms check", "incremental", section="terms"),
    *_both("mask terms on", "incremental", section="terms", rewrites=True),
    *_both("detect pii on", "incremental", section="pii_patterns", refusal=UNKNOWN_ANSWER),
    *_both("mask pii on", "incremental", section="pii_patterns", rewrites=True),
    *_both("detect secrets on", "incremental", section="secrets", refusal=UNKNOWN_ANSWER),
    *_both("mask secrets on", "incremental", section="secrets", rewrites=True),
    *_both("self check", "window", prompt="self_check"),
    *_both("content safety check", "window", prompt="content_safety_check", model="$model"),
    *_both("llama guard check", "window", prompt="llama_guard_check", model="llama_guard"),
    BuiltIn("topic safety check input", "input", "whole", prompt="topic_safety_check_input", model="$model"),
    *_both(
        "detect sensitive data on",
        "window",
        section="sensitive_data_detection",
        extra="presidio",
        refusal=UNKNOWN_ANSWER,
    ),
    *_both("mask sensitive data on", "window", section="sensitive_data_detection", extra="presidio", rewrites=True),
    BuiltIn("jailbreak detection heuristics", "input", "whole"),
    BuiltIn("injection detection", "output", "window", section="injection_detection", extra="yara"),
    BuiltIn("check tool names", "output", "tool", section="tools"),
    BuiltIn("check tool arguments", "output", "tool"),
    BuiltIn("self check facts", "output", "whole", prompt="self_check_facts"),
    BuiltIn("self check hallucination", "output", "whole", prompt="self_check_hallucination", refusal=UNKNOWN_ANSWER),
)

BUILT_IN: Final[Mapping[str, BuiltIn]] = MappingProxyType({entry.name: entry for entry in _TABLE})

NEMO_ACTIONS: Final[Mapping[str, str]] = MappingProxyType({
    "regex check input": "detect_regex_pattern",
    "regex check output": "detect_regex_pattern",
    "detect sensitive data on input": "detect_sensitive_data",
    "detect sensitive data on output": "detect_sensitive_data",
    "mask sensitive data on input": "mask_sensitive_data",
    "mask sensitive data on output": "mask_sensitive_data",
    "jailbreak detection heuristics": "jailbreak_detection_heuristics",
})  # fmt: skip
"""Where NeMo Guardrails' flow calls an action of another name than its own."""
