"""Install clients in environments of their own, run them against a provider and against a gateway, and compare."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from harness.stack import Stack, model
from railstream.testing import Upstream

from clients.known import KNOWN, USES, Client

PROBES = Path(__file__).parent / "probes"
ONCE = {"main": {"models": [model("", parameters={"max_retries": 0})]}}
"""A worker asks a provider once, so that what is counted are the tries of the client."""
Seen = Mapping[str, Mapping[str, Any]]


class Difference(NamedTuple):
    client: str
    use: str
    direct: Mapping[str, Any]
    through: Mapping[str, Any]
    reason: str
    """Why it is so by design; empty: nobody has said."""


async def install(client: Client, home: Path) -> list[str]:
    """The command that runs its probe. Raises `RuntimeError` where it cannot be installed here."""
    place = home / client.name
    if client.probe.endswith(".mjs"):
        node = shutil.which("node")
        if node is None or shutil.which("npm") is None:
            raise RuntimeError("node and npm are not here")
        place.mkdir(parents=True, exist_ok=True)
        await _done("npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(place), *client.packages)
        for probe in PROBES.glob("*.mjs"):  # Node looks for packages beside the file
            shutil.copy(probe, place)
        return [node, str(place / client.probe)]
    python = place / "bin" / "python"
    if not python.exists():
        await _done(sys.executable, "-m", "venv", str(place))
    await _done(str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *client.packages)
    return [str(python), str(PROBES / client.probe)]


async def _done(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {errors.decode()[-400:]}")


async def compare(client: Client, command: list[str], stack: Stack) -> Iterator[Difference]:
    """What an application sees in another way behind the gateway than at the provider."""
    direct = await _probe(command, stack.upstream.url, stack.upstream)
    through = await _probe(command, stack.gateways[0].api, stack.upstream)
    return (
        Difference(client.name, use, direct[use], through[use], reason_of(client.name, use, direct[use], through[use]))
        for use in direct
        if direct[use] != through[use]
    )


def reason_of(client: str, use: str, direct: Mapping[str, Any], through: Mapping[str, Any]) -> str:
    """Why these may differ as they do; empty where they may not."""
    plain = use.removesuffix(" streamed")
    known = KNOWN.get(f"{client}: {plain}") or KNOWN.get(plain)
    differing = {name for name in {*direct, *through} if direct.get(name) != through.get(name)}
    return known.reason if known is not None and differing <= known.fields else ""


async def _probe(command: list[str], url: str, upstream: Upstream) -> Seen:
    upstream.ledger.clear()
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PROBE_URL": url, "OPENAI_API_KEY": "testing"},
    )
    told, errors = await process.communicate(json.dumps(USES).encode())
    if process.returncode:
        raise RuntimeError(f"the probe failed: {errors.decode()[-800:]}")
    seen: dict[str, dict[str, Any]] = json.loads(told.splitlines()[-1])
    calls = [json.dumps(entry.body) for entry in upstream.ledger]
    for name, prompt in USES.items():
        marked = json.dumps(prompt)[1:-1]
        # A provider is asked for a stream by a gateway, so the tries of both ways are counted together.
        seen[name]["calls"] = sum(marked in call for call in calls)
    return seen
