"""Which options of a provider a request may send: those that the model that serves it passes."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from railstream.config import RailsConfig
from railstream.errors import InvalidRequestError

from railstream_gateway.accept.chat_body import ChatBody
from railstream_gateway.accept.served import Served


def refuse_options(served: Served, options: Collection[str]) -> None:
    """Raises `InvalidRequestError` for an option that does not pass; it names the setting that would let it."""
    if not options:
        return
    model = next(model for model in served.config.main_models if model.model == served.model)
    guarded = is_guarded(served.config)
    for option in sorted(options):
        if not model.passes(option, guarded=guarded):
            raise _refusal(option, served, model.engine, guarded=model.passes(option, guarded=False))


def is_guarded(config: RailsConfig) -> bool:
    """Whether any rail of the config reads what is asked or answered."""
    rails = config.rails
    return any(stage.flows for stage in (rails.input, rails.output, rails.tool_input, rails.tool_output))


def _refusal(option: str, served: Served, engine: str, *, guarded: bool) -> InvalidRequestError:
    """``guarded``: the option passes where no rails are."""
    near = difflib.get_close_matches(option, ChatBody.__struct_fields__, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    why = "could move text past the rails of" if guarded else f"is not known to engine {engine!r} of"
    shown = option[:200]
    return InvalidRequestError(
        f"{shown!r} is not a known option: it {why} config {'+'.join(served.config_ids)!r}{hint} "
        f"To send it to the provider, name it under railstream.pass of model {served.model!r}: pass: [{shown}]",
        param=shown,
        code="unknown_option",
    )
