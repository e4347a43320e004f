"""The pages beside the API: what their metrics say of real processes, and how they are closed or moved to a port."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

import httpx2
from harness.sse import fetch
from harness.stack import Stack
from harness.waiting import free_port, until
from railstream.testing import Script

StartStack = Callable[..., Awaitable[Stack]]
PAGES = ("/metrics", "/docs", "/openapi.json", "/")
API = ("/v1/models", "/livez", "/readyz")


async def status(url: str) -> int:
    async with httpx2.AsyncClient(timeout=10, trust_env=False) as client:
        return (await client.get(url)).status_code


async def sample(url: str, name: str, **labels: str) -> float | None:
    """The value of a series of a metrics page; ``None`` when it is not there."""
    async with httpx2.AsyncClient(timeout=10, trust_env=False) as client:
        page = (await client.get(f"{url}/metrics")).text
    for line in page.splitlines():
        found = re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
        if found and all(f'{label}="{value}"' in (found[1] or "") for label, value in labels.items()):
            return float(found[2])
    return None


async def test_metrics_show_queue_slots_routes_and_refusals_from_the_first_one_on(start_stack: StartStack) -> None:
    stack = await start_stack(
        script=Script(words=9, hold=3),
        concurrency=1,
        environment={"RAILSTREAM_API_KEYS": "key-1", "RAILSTREAM_KEEP_ALIVE": "0.3"},
    )
    gateway, worker, headers = stack.url, stack.workers[0].url, {"authorization": "Bearer key-1"}
    assert await sample(worker, "railstream_jobs_dead_total", railstream_reason="deliveries_exhausted") == 0
    assert await sample(gateway, "railstream_requests_rejected_total", railstream_reason="invalid_api_key") == 0
    async with stack.ask("Count.", headers=headers) as first, stack.ask("Count.", headers=headers) as second:
        await stack.upstream.ledger.wait(until=lambda _: stack.upstream.held == 1)
        assert await sample(worker, "railstream_worker_slots") == 1
        assert await sample(worker, "railstream_worker_slots_busy") == 1
        assert await sample(worker, "railstream_generations_running") == 1

        async def waits() -> bool:
            return await sample(gateway, "railstream_queue_depth", railstream_pool="default") == 1

        await until(waits, what="one job waits")
        age = "railstream_queue_oldest_age_seconds"
        assert (await sample(gateway, age, railstream_pool="default") or 0) > 0
        stack.upstream.script = Script(words=9)
        stack.upstream.release()
        await first.body()
        await second.body()
    assert (await fetch(f"{gateway}/v1/models", headers={"authorization": "Bearer no"}))[0] == 401
    assert (await fetch(f"{gateway}/v1/models"))[0] == 401
    assert (await fetch(f"{gateway}/v1/nothing", headers=headers))[0] == 404
    count = "http_server_request_duration_seconds_count"
    route = {"http_route": "/v1/chat/completions", "http_response_status_code": "200"}
    assert await sample(gateway, count, **route) == 2
    assert await sample(gateway, count, http_response_status_code="401") == 2
    for reason in ("invalid_api_key", "missing_api_key"):
        assert await sample(gateway, "railstream_requests_rejected_total", railstream_reason=reason) == 1
    assert await sample(gateway, count, http_response_status_code="404") == 1

    async def idle() -> bool:
        return await sample(worker, "railstream_worker_slots_busy") == 0

    await until(idle, what="no job runs")


async def test_pages_are_open_unless_they_are_closed_one_by_one(start_stack: StartStack) -> None:
    stack = await start_stack()
    assert {await status(stack.url + path) for path in PAGES} == {200}
    closed = stack.add_gateway("--pages", "docs")
    bare = stack.add_gateway("--pages", "none")
    await stack.ready()
    assert [await status(closed.url + path) for path in PAGES] == [404, 200, 200, 404]
    assert [await status(bare.url + path) for path in PAGES] == [404] * 4
    for gateway in (closed, bare):
        assert [await status(gateway.url + path) for path in API] == [200] * 3
        assert await status(f"{gateway.url}//metrics") == 404
        assert await status(f"{gateway.url}/docs/oauth2-redirect") in (200, 404)
    assert await status(f"{bare.url}/docs/oauth2-redirect") == 404


async def test_pages_move_to_a_port_of_their_own(start_stack: StartStack) -> None:
    stack = await start_stack()
    port = free_port()
    gateway = stack.add_gateway("--pages-port", str(port))
    await stack.ready()
    assert [await status(gateway.url + path) for path in PAGES] == [404] * 4
    assert [await status(gateway.url + path) for path in API] == [200] * 3
    assert [await status(f"http://127.0.0.1:{port}{path}") for path in (*PAGES, *API)] == [200] * 7
    async with stack.ask("Hello.", gateway=1) as stream:
        await stream.body()
    assert await gateway.terminate() == 0, gateway.tail()
