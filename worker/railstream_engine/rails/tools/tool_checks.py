"""Rails that look at a complete tool call: which tools a model may call, and with what arguments."""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Mapping
from typing import Any, Protocol

from railstream.config import Flow, RailsConfig
from railstream.errors import ConfigurationError

from railstream_engine.rails.port import ToolCall

SLOW_KEYWORDS = ("pattern", "patternProperties", "format")
"""Parts of JSON Schema that a client could make endless: they search with expressions of its own."""


class ToolCheck(Protocol):
    flow: str

    async def problem(self, call: ToolCall) -> str | None:
        """Why the call may not be made, in words that name nothing that the model wrote; ``None`` when it may."""


class NameCheck:
    """`check tool names`: the tools of ``rails.config.tools.allowed``, and no other."""

    def __init__(self, config: RailsConfig, flow: Flow) -> None:
        self.flow: str = flow
        self._allowed = frozenset(config.rails.config.tools.allowed)

    async def problem(self, call: ToolCall) -> str | None:
        return None if call.name in self._allowed else "a tool that this config does not allow"


class ArgumentCheck:
    """`check tool arguments`: JSON that fits the schema by which the request declares the tool."""

    def __init__(self, config: RailsConfig, flow: Flow) -> None:
        self.flow: str = flow
        try:
            validators = importlib.import_module("jsonschema.validators")
        except ImportError as error:
            raise ConfigurationError(
                f"the flow {flow.text!r} needs jsonschema: pip install 'railstream[worker]' ({error})"
            ) from error
        base = validators.Draft202012Validator
        kept = {name: check for name, check in base.VALIDATORS.items() if name not in SLOW_KEYWORDS}
        self._validator = validators.create(base.META_SCHEMA, kept, type_checker=base.TYPE_CHECKER)

    async def problem(self, call: ToolCall) -> str | None:
        if not call.declared:
            return "a tool that the request does not declare"
        arguments = call.arguments
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments or "{}")
            except (ValueError, RecursionError):
                return "arguments that are no JSON"
        if call.schema is None:
            return None
        fits = await asyncio.to_thread(self._fits, call.schema, arguments)
        return None if fits else "arguments that do not fit the tool's schema"

    def _fits(self, schema: Mapping[str, Any], arguments: Any) -> bool:
        try:
            return bool(self._validator(schema).is_valid(arguments))
        except Exception:  # a schema that is none, or that refers to another: nothing fits it
            return False


def tool_check(config: RailsConfig, flow: Flow) -> ToolCheck:
    """The check of a built-in flow of the kind ``tool``."""
    assert flow.built_in is not None
    return NameCheck(config, flow) if flow.built_in.name == "check tool names" else ArgumentCheck(config, flow)
