"""``python -m railstream.testing``: serve, say where in one line, and stop on SIGINT or SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
from typing import Any

import msgspec

from railstream.testing.ledger import Ledger
from railstream.testing.script import Script
from railstream.testing.server import ABOUT, Upstream


def main(arguments: list[str] | None = None) -> None:
    options = _parse(arguments)
    try:
        from uvloop import run
    except ImportError:
        asyncio.run(_serve(options))
    else:
        run(_serve(options))


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m railstream.testing", description=ABOUT)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--json", action="store_true", help="print where it listens as JSON")
    parser.add_argument("--script", type=_script, default=Script(), help="JSON of railstream.testing.Script")
    parser.add_argument("--model", action="append", default=[], metavar="NAME=JSON", help="a script for one model")
    parser.add_argument("--words", type=int, help="like the script's")
    parser.add_argument("--rate", type=float, help="like the script's")
    parser.add_argument("--stamp", action="store_true", help="like the script's")
    parser.add_argument("--api-key", help="refuse calls with another one")
    parser.add_argument("--no-bodies", action="store_true", help="the ledger keeps no request bodies")
    options = parser.parse_args(arguments)
    given = {name: value for name in ("words", "rate", "stamp") if (value := getattr(options, name))}
    options.script = options.script.over(given)
    try:
        options.models = {name: _script(raw) for name, _, raw in (model.partition("=") for model in options.model)}
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))
    return options


def _script(raw: str) -> Script:
    try:
        return msgspec.json.decode(raw, type=Script)
    except msgspec.MsgspecError as error:
        raise argparse.ArgumentTypeError(f"{error}: {raw!r}") from error


async def _serve(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    ledger = Ledger(bodies=not options.no_bodies)
    upstream = Upstream(
        options.script,
        models=options.models,
        host=options.host,
        port=options.port,
        api_key=options.api_key,
        ledger=ledger,
    )
    async with upstream:
        where: dict[str, Any] = {"url": upstream.url, "port": upstream.port, "pid": os.getpid()}
        print(json.dumps(where) if options.json else f"Railstream testing upstream on {upstream.url}", flush=True)
        await stop.wait()


if __name__ == "__main__":
    main()
