"""The compose stack under load, as `load` puts it on processes: through the published port, on containers that run.

The upstream's stamps hold across containers, which share the machine's monotonic clock; CPU is that of their processes.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from bench.cases.load import both_lengths
from bench.load import Load, Target
from bench.measuring import Run, measure, solve
from bench.results import Row
from bench.settings import Bench
from bench.systems import System, straight

MODEL = "gpt-4o-mini"
PARTS = ("balancer", "gateway", "worker", "redis")


@dataclass(frozen=True, slots=True)
class UpstreamContainer:
    """The testing upstream of ``docker compose --profile upstream``."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @classmethod
    async def find(cls) -> UpstreamContainer:
        """Raises ``RuntimeError`` when it does not run."""
        return cls(await _port("upstream", 9000), (await _pids("upstream"))[0])


async def compose(bench: Bench) -> None:
    """What a chunk and a request cost in each kind of container. Told, not judged: the budget has no balancer in it."""
    settings, findings = bench.settings, bench.findings
    async with straight(bench.upstream) as upstream:
        direct = await measure(upstream, Load(settings.streams, settings.words, settings.rate))
    parts = {service: await _pids(service) for service in PARTS}
    target = Target((await _port("balancer", 8000),), extra={"model": MODEL})
    short, long = await both_lengths(bench, System("compose", target, parts, bench.upstream))
    for part, cost in solve(short, long).items():
        count = f"{len(parts[part])} of them" if part in parts else ""
        findings.add(Row("compose", f"{part}, per chunk", cost.chunks, "CPU-s/100k", note=count))
        findings.add(Row("compose", f"{part}, per request", cost.request, "CPU-ms"))
    findings.add(*_waits("straight to the upstream", direct), *_waits("through the published port", long))
    runs = {"straight": direct, "short": short, "long": long}
    findings.details["compose"] = {name: run.summary() for name, run in runs.items()}


def _waits(name: str, run: Run) -> list[Row]:
    chunk = Row("compose", f"{name}, added per chunk, p99", run.latency(99), "ms", note=f"p50 {run.latency(50):.1f} ms")
    return [chunk, Row("compose", f"{name}, first chunk, p50", run.first(50), "ms")]


async def _port(service: str, inside: int) -> int:
    return int((await _docker("compose", "--profile", "upstream", "port", service, str(inside))).rpartition(":")[2])


async def _pids(service: str) -> tuple[int, ...]:
    """Of its containers, as this machine numbers them."""
    found = (await _docker("compose", "--profile", "upstream", "ps", "-q", service)).split()
    if not found:
        raise RuntimeError(f"no container of {service!r} runs: docker compose --profile upstream up --wait")
    return tuple(int(pid) for pid in (await _docker("inspect", "--format", "{{.State.Pid}}", *found)).split())


async def _docker(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "docker", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"docker {' '.join(arguments)}: {err.decode().strip()}")
    return out.decode()
