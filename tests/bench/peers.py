"""The peers, installed into environments of their own, started in front of the same upstream, under the same load.

Nothing of them enters the project's environment. Each is given its own server as its documentation starts it, without
telemetry, and a config that does what ours does.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from harness.processes import Process
from harness.waiting import answers, free_port

from bench.load import MODEL, Load, Target
from bench.measuring import LoadFailed, Run, idle_rates, measure, middle, solve, warm_up
from bench.results import Row
from bench.settings import Bench
from bench.systems import REGEX_RAIL, System, Upstream, railstream, straight

CACHE = os.environ.get("BENCH_DIR", str(Path.home() / ".cache" / "railstream-bench"))
PACKAGES = {"nemoguardrails": "nemoguardrails[server]==0.24.1", "litellm": "litellm[proxy]==1.106.2"}
STARTING = 180
"""Seconds that a peer may take to start."""
QUIET = {
    "NEMO_GUARDRAILS_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "LITELLM_LOG": "ERROR",
    # Keys cost time at each request, and ours are off as well; it listens on this machine only.
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    "NO_PROXY": "127.0.0.1,localhost",
}


class Peer(Process):
    """A server of a peer; it is ready once it answers on ``health``."""

    def __init__(self, name: str, command: list[str], *, port: int, health: str, directory: Path) -> None:
        super().__init__(name, command, directory=directory, environment=QUIET)
        self.port = port
        self._health = health

    async def is_ready(self) -> bool:
        return await answers(f"http://127.0.0.1:{self.port}{self._health}")


def installed(package: str, cache: Path) -> Path:
    """The environment of a peer; made, once, when it is missing. The peer's version may be pinned by hand in it."""
    home = cache / package
    if not (home / ".installed").exists():
        print(f"  installing {PACKAGES[package]} into {home}; this takes minutes, once", flush=True)
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        subprocess.run([home / "bin" / "pip", "install", "-q", PACKAGES[package]], check=True)
        (home / ".installed").touch()
    return home


def version(package: str, home: Path) -> str:
    asked = f"from importlib.metadata import version; print(version({package!r}))"
    answer = subprocess.run([home / "bin" / "python", "-c", asked], check=True, capture_output=True, text=True)
    return answer.stdout.strip()


@asynccontextmanager
async def nemo(upstream: Upstream, directory: Path, home: Path, rail: bool) -> AsyncGenerator[System, None]:
    """NeMo Guardrails' server: one process, nothing durable."""
    entry = {"type": "main", "engine": "openai", "model": MODEL}
    entry["parameters"] = {"base_url": upstream.url, "api_key": "testing"}  # type: ignore[assignment]
    config = {"models": [entry], "passthrough": True} | (REGEX_RAIL if rail else {})
    _write(directory / "configs" / "bench" / "config.yml", config)
    port = free_port()
    command = [str(home / "bin" / "nemoguardrails"), "server", "--port", str(port), "--disable-chat-ui"]
    command += ["--config", str(directory / "configs"), "--default-config-id", "bench"]
    name = f"NeMo Guardrails {version('nemoguardrails', home)}, {'regex rail' if rail else 'no rail'}"
    peer = Peer("nemo", command, port=port, health="/v1/health", directory=directory)
    async with _serving(peer):
        yield System(name, Target((port,)), {"server": (peer.pid,)}, upstream)


@asynccontextmanager
async def litellm(upstream: Upstream, directory: Path, home: Path) -> AsyncGenerator[System, None]:
    """LiteLLM's proxy, no guardrails: one process, nothing durable."""
    params = {"model": f"openai/{MODEL}", "api_base": upstream.url, "api_key": "testing"}
    config = {"model_list": [{"model_name": MODEL, "litellm_params": params}], "litellm_settings": {"telemetry": False}}
    _write(directory / "config.yaml", config)
    port = free_port()
    command = [str(home / "bin" / "litellm"), "--config", str(directory / "config.yaml"), "--port", str(port)]
    command += ["--host", "127.0.0.1", "--telemetry", "False", "--num_workers", "1"]
    peer = Peer("litellm", command, port=port, health="/health/liveliness", directory=directory)
    async with _serving(peer):
        name = f"LiteLLM {version('litellm', home)} proxy, no guardrail"
        yield System(name, Target((port,)), {"server": (peer.pid,)}, upstream)


@asynccontextmanager
async def _serving(peer: Peer) -> AsyncGenerator[None, None]:
    try:
        await peer.start().ready(STARTING)
        yield
    finally:
        await asyncio.to_thread(peer.stop)


def _write(path: Path, config: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(dict(config), sort_keys=False), encoding="utf-8")


Start = Callable[[], AbstractAsyncContextManager[System]]


async def side_by_side(bench: Bench, cache: Path) -> None:
    """The same load on every system, one after the other."""
    nemo_home, litellm_home = (installed(package, cache) for package in PACKAGES)
    upstream = bench.upstream
    systems: list[Start] = [
        lambda: straight(upstream),
        lambda: railstream(upstream, bench.room(), config="none", concurrency=512),
        lambda: railstream(upstream, bench.room(), config="regex", concurrency=512),
        lambda: nemo(upstream, bench.room(), nemo_home, False),
        lambda: nemo(upstream, bench.room(), nemo_home, True),
        lambda: litellm(upstream, bench.room(), litellm_home),
    ]
    runs = bench.findings.details["peers"] = []
    for start in systems:
        try:
            runs.append(await _both(bench, start))
        except (LoadFailed, RuntimeError, TimeoutError) as error:
            print(f"  failed: {error}", file=sys.stderr)
    _add_ratios(bench, runs)


def _add_ratios(bench: Bench, runs: Sequence[dict[str, Any]]) -> None:
    """How often ours, durable and with a rail, fits into what each peer spends."""
    ours = next((run for run in runs if run["system"] == "railstream, regex rail"), None)
    for run in runs:
        if ours is None or run["cost"] is None or run["system"].startswith("railstream"):
            continue
        for length in ("short", "long"):
            theirs, own = (side[length]["cpu_s_per_100k"]["all"] for side in (run, ours))
            name = f"{run['system']}, {run[length]['words']}-word answers, costs x times ours with a regex rail"
            bench.findings.add(Row("peers", name, theirs / own, "x", 1, at_least=True))


async def _both(bench: Bench, start: Start) -> dict[str, Any]:
    settings = bench.settings
    async with start() as system:
        print(f"{system.name} …", flush=True)
        await warm_up(system, settings.streams)
        idle = await idle_rates(system)
        runs: dict[int, list[Run]] = {settings.words: [], settings.long_words: []}
        for _ in range(settings.repeat):
            for words, kept in runs.items():
                kept.append(await measure(system, Load(settings.streams, words, settings.rate), idle))
        short, long = (middle(kept) for kept in runs.values())
        cost = solve(short, long)["all"] if system.parts else None
        return {
            "system": system.name,
            "short": short.summary(),
            "long": long.summary(),
            "cost": None if cost is None else asdict(cost),
        }
