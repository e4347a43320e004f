"""`railstream check`: read rails configs as a worker would, and say what they will do, without running anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from railstream.config import missing_variables
from railstream.config.action_names import action_names, missing_actions
from railstream.config.config_set import ConfigSet
from railstream.config.flows import Flow
from railstream.config.models import Model
from railstream.config.notes import notes
from railstream.config.rails import OutputStreaming
from railstream.config.rails_config import RailsConfig
from railstream.errors import ConfigurationError


def check(
    config: Annotated[Path, typer.Argument(help="A rails config, or a directory of them.", show_default=False)],
) -> None:
    """Check rails configs and explain them: models, rails in their order, what is held back, what differs from NeMo.

    Exits with 2 when one of them cannot be served, after a line for each problem.

    \b
    Examples:
      railstream check ./configs
      railstream check ./configs/support/config.yml
    """
    console = Console(highlight=False)
    configs = ConfigSet.load(config)
    for one in configs:
        _refuse_missing_actions(one)
    for one in configs:
        explain(one, console, is_default=one.id == configs.default_id)


def explain(config: RailsConfig, console: Console, *, is_default: bool = False) -> None:
    """Print what a config does."""
    _line(console, f"[bold]{escape(config.id)}[/bold]{' (default)' if is_default else ''}  {config.directory or ''}")
    _list(console, "models", [(model.model, _model(model)) for model in config.models])
    rails = config.rails
    _list(
        console,
        f"input rails, {'at the same time' if rails.input.parallel else 'in turn'}; the answer waits for them",
        [(flow.text, "the whole message") for flow in rails.input.flows],
    )
    _list(
        console,
        f"output rails, {'at the same time' if rails.output.parallel else 'in turn'}",
        [(flow.text, held_back(config, flow)) for flow in rails.output.flows],
    )
    for title, flows in (("tool calls", rails.tool_output.flows), ("tool results", rails.tool_input.flows)):
        _list(console, f"rails of {title}", [(flow.text, "the whole of it") for flow in flows])
    _line(console, f"  a block reaches a streaming client as: {config.railstream.on_violation or 'error'}")
    _line(console, f"  digest: {config.digest[:12]}, the same at every gateway and worker that means this config")
    for line in missing_variables.missing(config):
        _line(console, f"  [red]missing:[/red] {escape(line)}")
    for line in (*_replaced(config), *notes(config)):
        _line(console, f"  [yellow]note:[/yellow] {escape(line)}")
    _line(console, "")


def _replaced(config: RailsConfig) -> Iterator[str]:
    """Built-in rails that an action beside the config takes the place of, as in NeMo Guardrails."""
    names = action_names(config)
    for flow in config.flows:
        own = [name for name in flow.action_names if name in names] if flow.built_in else []
        if own:
            yield f"the flow {flow.text!r} runs your action {own[0]!r} in place of the built-in rail"


def _refuse_missing_actions(config: RailsConfig) -> None:
    missing = missing_actions(config)
    if missing:
        raise ConfigurationError(
            "\n".join(
                f"{config.directory}: the flow {flow.text!r} is not built in, and there is no action "
                f"{flow.action!r} in actions.py{hint}"
                for flow, hint in missing
            )
        )


def _model(model: Model) -> str:
    where = f" at {model.base_url}" if model.base_url else ""
    return f"{model.type}, {model.engine}{where}{_key(model)}"


def _key(model: Model) -> str:
    name = model.key_variable
    if not name:
        return ", key in the config" if model.api_key else ""
    if model.api_key:
        return f", key ${name}"
    return f", key ${name} (not set here)" if name in model.missing_variables else f", key ${name} if it is set"


def held_back(config: RailsConfig, flow: Flow) -> str:
    """How much of an answer an output rail keeps from the reader, and for how long."""
    streaming = config.rails.output.streaming
    kind = flow.built_in.kind if flow.built_in else "window"
    if kind == "whole":
        return "the whole answer: holds back everything until it is complete"
    if kind == "window":
        return f"windows: {_window(streaming)}"
    reach = _reach(config, flow)
    most = "only what" if reach is None else f"at most {reach} characters, those that"
    return f"each character: holds back {most} may still become a match"


def _reach(config: RailsConfig, flow: Flow) -> int | None:
    """The most characters that an incremental rail keeps, from the rail itself; ``None`` without the worker's extra.

    Raises:
        ConfigurationError: the rail cannot be made, such as of a pattern that cannot be matched in a stream.
    """
    try:
        from railstream_engine.rails.catalog import incremental_rail
    except ImportError:
        return None
    return incremental_rail(config, flow, "output").matcher.reach


def _window(streaming: OutputStreaming) -> str:
    first = f" ({streaming.first_chunk_size} at first)" if streaming.first_chunk_size else ""
    if streaming.stream_first:
        return f"shows up to {streaming.chunk_size} deltas{first} before their check"
    return (
        f"holds back up to {streaming.chunk_size} deltas{first} until their check has passed "
        f"(at most {streaming.check_timeout:g} s, {streaming.max_concurrent_checks} at once)"
    )


def _list(console: Console, title: str, rows: Sequence[tuple[str, str]]) -> None:
    if not rows:
        return
    _line(console, f"  [dim]{title}[/dim]")
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        _line(console, f"    {escape(name.ljust(width))}  {escape(text)}")


def _line(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True)
