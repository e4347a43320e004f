"""The command table, and the entry point that loads only the command that was asked for.

`railstream --help` imports neither settings nor a side of the product, so it answers at once and with any extras.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version as version_of
from typing import Annotated

import typer

from railstream.errors import ConfigurationError, InvalidRequestError, RailstreamError, RequestNotFoundError

COMMANDS: dict[str, tuple[str, str]] = {
    # name: (module that holds a function of that name, line for the overview)
    "up": ("railstream.cli.up", "Start everything here: Redis, a gateway and workers."),
    "gateway": ("railstream.cli.gateway", "Serve the HTTP API."),
    "worker": ("railstream.cli.worker", "Generate, guard and publish completions."),
    "chat": ("railstream.cli.chat", "Talk to a rails config, in this process or on a server."),
    "check": ("railstream.cli.check", "Read rails configs and explain what they do."),
    "ps": ("railstream.cli.ps", "List the requests that wait and run."),
    "show": ("railstream.cli.show", "Show the life of one request."),
    "cancel": ("railstream.cli.cancel", "Stop requests, queued or running."),
    "workers": ("railstream.cli.workers", "List the workers and what waits for them."),
    "usage": ("railstream.cli.usage", "Show the tokens that LLM calls used."),
    "dead": ("railstream.cli.dead", "Look at jobs that failed their last delivery, or run them again."),
    "version": ("railstream.cli.version", "Print the versions that a bug report needs."),
}
FAILURE = 1
USAGE_ERROR = 2
USAGE_ERRORS = (ConfigurationError, InvalidRequestError)
"""What is wrong with the command line, a setting or a config; all else is a failure of what it names."""

OVERVIEW = """Guarded, durable LLM chat completions: a gateway, workers and a Redis Stream per request.

Every option is also an environment variable RAILSTREAM_…; `railstream COMMAND --help` names them.

\b
Start here:
  railstream up                everything on this machine, http://127.0.0.1:8000
  railstream up --config DIR   with your own rails configs, one folder each
  railstream chat              talk to the built-in config, without a server
  railstream ps                what waits and runs
"""


def build(arguments: Sequence[str]) -> typer.Typer:
    """The application for one command line: every command is listed, the named one is loaded."""
    app = typer.Typer(
        help=OVERVIEW, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=True
    )
    app.callback()(_overview)
    for name, (module, line) in COMMANDS.items():
        loaded = name in arguments or _completing()
        app.command(name, short_help=line)(getattr(import_module(module), name) if loaded else _listed(line))
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; what is wrong with it is one line on stderr."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = build(given)(args=given, prog_name="railstream", standalone_mode=True)
    except RailstreamError as error:
        print(f"railstream: {error}", file=sys.stderr)
        is_usage = isinstance(error, USAGE_ERRORS) and not isinstance(error, RequestNotFoundError)
        return USAGE_ERROR if is_usage else FAILURE
    except OSError as error:
        print(f"railstream: {error}", file=sys.stderr)
        return FAILURE
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 0 if exit_.code is None else 1
    return code if isinstance(code, int) else 0


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"railstream {version_of('railstream')}")
        raise typer.Exit


def _overview(
    version: Annotated[
        bool, typer.Option("--version", "-V", is_eager=True, callback=_version, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def _listed(line: str) -> Callable[[], None]:
    def command() -> None:
        raise AssertionError("a command is loaded before it is run")

    command.__doc__ = line
    return command


def _completing() -> bool:
    return "_RAILSTREAM_COMPLETE" in os.environ
