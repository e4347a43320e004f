"""A real Prometheus reads the metrics pages, the rules and every panel of the dashboard.

Skipped where the programs are missing; Debian and Ubuntu have both in the package ``prometheus``.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import httpx2
import pytest
from harness.prometheus import FILES, PROMETHEUS, PROMTOOL, Prometheus, written
from harness.stack import Stack, surviving
from harness.waiting import until
from railstream.testing import directive

StartStack = Callable[..., Awaitable[Stack]]
DASHBOARD = FILES.parent / "grafana" / "dashboards" / "railstream.json"
HERE = Path(__file__).parent
GUARDED = {
    "rails": {
        "config": {"regex_detection": {"input": {"patterns": ["ignore this"]}, "output": {"patterns": ["forbidden"]}}},
        "input": {"flows": ["regex check input"]},
        "output": {"flows": ["regex check output"], "streaming": {"enabled": True}},
    },
}
RARE = {"railstream_stream_gaps", "railstream_appends_fenced", "railstream_jobs_dead", "railstream_requests_rejected"}
"""What must go wrong for these is broken in `tests/chaos`; here their expressions need only be valid."""
MODEL = "gpt-4o-mini"
"""One that prices.yml lists."""
WORKER_OPTIONS = ("--lease", "2")

needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not here: apt-get install prometheus")
needs_prometheus = pytest.mark.skipif(PROMETHEUS is None, reason="no prometheus here: apt-get install prometheus")


async def promtool(*arguments: str, given: str = "") -> str:
    assert PROMTOOL is not None
    done = await asyncio.to_thread(
        subprocess.run, [PROMTOOL, *arguments], input=given, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def expressions() -> Iterator[str]:
    """The dashboard's, with Grafana's variables filled in."""
    filled = {"$__range": "1m", "$__rate_interval": "10s", "$model": ".*"}
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        for target in panel.get("targets", ()):
            yield re.sub(r"\$\w+", lambda found: filled[found.group()], target["expr"])


@needs_promtool
async def test_the_configuration_and_the_rules_are_valid(tmp_path: Path) -> None:
    said = await promtool("check", "config", str(written(tmp_path)))
    assert "3 rules found" in said
    assert "11 rules found" in said


@needs_promtool
async def test_every_alert_fires_when_it_should(tmp_path: Path) -> None:
    shutil.copy(FILES / "alerts.yml", tmp_path / "alerts-under-test.yml")
    tests = tmp_path / "alerts.yml"
    shutil.copy(HERE / "alerts.yml", tests)
    await promtool("test", "rules", str(tests))
    alerts = re.findall(r"- alert: (\w+)", (FILES / "alerts.yml").read_text(encoding="utf-8"))
    assert alerts
    for alert in alerts:
        assert re.search(rf"alertname: {alert}\n\s+exp_alerts:\n", tests.read_text(encoding="utf-8")), alert


async def ordinary_traffic(stack: Stack) -> None:
    """An answer whose worker dies and which is cancelled; then, on the worker that is left, three more."""
    async with stack.ask(directive(words=3000, rate=20), model=MODEL) as orphan:
        await orphan.read(frames=3)
        await stack.add_worker(*WORKER_OPTIONS).ready()
        await stack.workers[0].kill()
        while not (orphan.frames[-1].id or "").startswith("2-"):
            await orphan.read(frames=len(orphan.frames) + 1)
        await stack.cancel(orphan.request_id)
        await orphan.read()
    for content in (directive(words=30, reasoning=5, cached_tokens=3), directive(text="A forbidden fruit.")):
        async with stack.ask(content, model=MODEL) as stream:
            await stream.read()
            request_id = stream.request_id
    async with stack.resume(request_id) as again:
        await again.read()


@needs_prometheus
@needs_promtool
async def test_the_dashboard_shows_a_running_deployment(start_stack: StartStack, tmp_path: Path) -> None:
    config = GUARDED | {"models": [{"type": "main", "engine": "openai", "model": MODEL}]}
    stack = await start_stack(configs=surviving({"main": config}), worker_options=WORKER_OPTIONS)
    await ordinary_traffic(stack)
    pages = {"railstream-gateway": stack.gateways[0].url, "railstream-worker": stack.workers[1].url}
    for url in pages.values():
        await promtool("check", "metrics", given=await page_of(url))

    targets = {job: [url.removeprefix("http://")] for job, url in pages.items()}
    prometheus = Prometheus(tmp_path / "prometheus", targets).start()
    try:
        await prometheus.ready()
        for job in pages:
            await until(
                lambda job=job: prometheus.query(f'up{{job="{job}"}} == 1'), timeout=30, what=f"{job} is scraped"
            )
        for expression in expressions():
            await prometheus.query(expression)
            if not any(name in expression for name in RARE):
                await until(partial(prometheus.query, expression), timeout=30, what=expression)
        (takeovers,) = [expression for expression in expressions() if "railstream_takeovers" in expression]
        assert int((await prometheus.query(takeovers))[0]["value"][1]) > 0, "the first of its kind is not seen"
        groups = (await prometheus.get("rules"))["groups"]
        assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}
    finally:
        prometheus.stop()


async def page_of(url: str) -> str:
    async with httpx2.AsyncClient(trust_env=False) as client:
        return (await client.get(f"{url}/metrics")).text
