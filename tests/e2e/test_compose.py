"""The compose stack as it is shipped: published port, two gateways, two workers, and containers that are killed.

`make compose-test` starts it with the testing upstream as the provider and runs this file.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from bench.__main__ import main as bench
from harness.sse import Frame, Incomplete, Stream, fetch, opened
from harness.waiting import until
from openai import AsyncOpenAI

URL = os.environ.get("COMPOSE_URL", "")
UPSTREAM = os.environ.get("UPSTREAM_URL", "")
MODEL = "gpt-4o-mini"
WORDS = 150  # of an answer; at 50 a second there is time to kill what it runs on

pytestmark = pytest.mark.skipif(not URL, reason="needs a Docker engine and the running containers: make compose-test")


async def docker(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "docker", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 0, f"docker {' '.join(arguments)}: {err.decode()}"
    return out.decode().strip()


async def compose(*arguments: str) -> str:
    return await docker("compose", "--profile", "upstream", *arguments)


async def containers(service: str) -> list[str]:
    return (await compose("ps", "-q", service)).split()


async def whole(workers: int = 2) -> None:
    """All containers up and healthy again, whatever a test before has killed."""
    await compose("up", "-d", "--wait", "--no-build", "--scale", f"worker={workers}")
    await until(lambda: workers_seen(workers), timeout=30, what=f"{workers} workers are seen")


async def workers_seen(number: int) -> bool:
    status, body = await fetch(f"{URL}/readyz")
    return status == 200 and body["workers"] == number


def ask(seed: int = 0, words: int = WORDS, **given: Any) -> Any:
    directive = f"@upstream {json.dumps({'words': words, 'seed': seed, 'rate': 50})}"
    body = {"model": MODEL, "messages": [{"role": "user", "content": directive}], "stream": True} | given
    return opened(f"{URL}/v1/chat/completions", body=body)


async def resumed(request_id: str, frames: list[Frame]) -> tuple[list[Frame], int]:
    """The rest of a stream, from whichever gateway is there, and how often that took a new connection."""
    cuts = 0
    while not (frames and frames[-1].done):
        after = next((frame.id for frame in reversed(frames) if frame.id), None)
        url = f"{URL}/v1/chat/completions/{request_id}?stream=true"
        try:
            async with opened(url, after=after) as stream:
                assert stream.status in (200, 502, 503), stream.status
                if stream.status == 200:
                    try:
                        await stream.read()
                    finally:
                        frames = [*frames, *stream.frames]
        except (Incomplete, OSError, asyncio.IncompleteReadError):
            pass
        cuts += 1
    return frames, cuts


def text_of(frames: Sequence[Frame]) -> str:
    return "".join(frame.text for frame in frames)


async def uncut(seed: int, words: int = WORDS) -> str:
    async with ask(seed, words) as stream:
        await stream.read()
        assert stream.done
        return stream.text


async def owner_of(request_id: str) -> str:
    """The container of the worker that runs a request."""
    key = f"railstream:{{{request_id[-2:]}}}:request:{request_id}"
    owner = await compose("exec", "-T", "redis", "redis-cli", "--raw", "hget", key, "owner")
    return next(container for container in await containers("worker") if owner.startswith(container[:12]))


async def test_the_openai_sdk_is_served_on_the_published_port() -> None:
    async with AsyncOpenAI(base_url=f"{URL}/v1", api_key="not-needed", max_retries=0) as client:
        assert MODEL in [model.id async for model in client.models.list()]
        messages: Any = [{"role": "user", "content": "Say something."}]
        answer = await client.chat.completions.create(model=MODEL, messages=messages, seed=1)
        text = ""
        stream = await client.chat.completions.create(
            model=MODEL, messages=messages, seed=1, stream=True, stream_options={"include_usage": True}
        )
        async for chunk in stream:
            text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        assert chunk.usage is not None
        assert text == answer.choices[0].message.content


async def test_a_stream_that_is_cut_goes_on_where_it_was_on_either_gateway() -> None:
    async with ask(seed=2, words=20) as stream:
        whole_stream = await stream.read()
        request_id = stream.request_id
    for cut in range(1, len(whole_stream)):
        frames, _ = await resumed(request_id, whole_stream[:cut])
        assert frames == whole_stream


async def test_a_stream_survives_the_kill_of_its_worker() -> None:
    await whole()
    expected = await uncut(seed=3)
    async with ask(seed=3) as stream, asyncio.TaskGroup() as group:
        group.create_task(stream.read())
        await until(lambda: len(stream.frames) > 20)
        await docker("kill", await owner_of(stream.request_id))
    frames = stream.frames
    assert stream.done
    assert text_of(frames) == expected
    ids = [frame.id for frame in frames if frame.id]
    assert ids[-1].startswith("2-"), "another worker's attempt has finished it"


async def test_streams_survive_the_kill_of_a_gateway() -> None:
    await whole()
    expected = await uncut(seed=4)
    killed = asyncio.Event()

    async def read() -> int:
        async with ask(seed=4) as stream:
            streams.append(stream)
            try:
                await stream.read()
            except Incomplete:
                assert killed.is_set()
        frames, cuts = await resumed(stream.request_id, stream.frames)
        assert text_of(frames) == expected
        assert len({frame.id for frame in frames if frame.id}) == len([frame for frame in frames if frame.id])
        return cuts

    streams: list[Stream] = []
    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(read()) for _ in range(4)]
        await until(lambda: [len(stream.frames) > 20 for stream in streams] == [True] * 4)
        killed.set()
        await docker("kill", (await containers("gateway"))[0])
    cuts = [reader.result() for reader in readers]
    assert any(cuts), "the killed gateway had no stream"
    assert not all(cuts), "the other gateway lost one, too"


async def test_fifty_streams_at_once_are_whole_and_the_provider_was_asked_once_for_each() -> None:
    await whole()
    async with opened(f"{UPSTREAM}/ledger", method="DELETE") as forgotten:
        await forgotten.body()
    expected = await uncut(seed=5, words=60)

    async def read() -> str:
        async with ask(seed=5, words=60) as stream:
            await stream.read()
            return stream.text if stream.done else f"cut: {stream.text}"

    assert set(await asyncio.gather(*(read() for _ in range(50)))) == {expected}
    _, ledger = await fetch(f"{UPSTREAM}/ledger")
    assert len(ledger["calls"]) == 51


async def test_the_benchs_load_is_whole_through_the_published_port(tmp_path: Path) -> None:
    await whole()
    written = tmp_path / "results.json"
    assert await asyncio.to_thread(bench, ["compose", "--smoke", "--json", str(written)]) == 0
    found = json.loads(written.read_text(encoding="utf-8"))
    assert {row["case"] for row in found["rows"]} == {"compose"}
    assert set(found["details"]["compose"]["long"]["memory_mb"]) == {"balancer", "gateway", "worker", "redis"}


async def test_workers_are_added_and_a_stopped_one_leaves_with_0() -> None:
    await whole(workers=4)
    assert len(await containers("worker")) == 4
    leaver = (await containers("worker"))[-1]
    await docker("stop", leaver)
    assert await docker("inspect", "--format", "{{.State.ExitCode}}", leaver) == "0"
    await until(lambda: workers_seen(3), timeout=15, what="3 workers are seen")
    await whole()


async def test_a_stopped_gateway_hands_over_its_streams_and_leaves_with_0() -> None:
    await whole()
    expected = await uncut(seed=6)
    leaver = (await containers("gateway"))[0]

    async def read() -> str:
        async with ask(seed=6) as stream:
            streams.append(stream)
            with suppress(Incomplete):
                await stream.read()
        frames, _ = await resumed(stream.request_id, stream.frames)
        return text_of(frames)

    streams: list[Stream] = []
    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(read()) for _ in range(4)]
        await until(lambda: [len(stream.frames) > 20 for stream in streams] == [True] * 4)
        await docker("stop", "--time", "30", leaver)
    assert {reader.result() for reader in readers} == {expected}
    assert await docker("inspect", "--format", "{{.State.ExitCode}}", leaver) == "0"
    await whole()


@pytest.mark.parametrize(
    ("service", "lacks"),
    [("gateway", ["openai", "anthropic", "regex"]), ("worker", ["fastapi", "starlette", "uvicorn", "anthropic"])],
)
async def test_an_image_holds_only_its_side(service: str, lacks: list[str]) -> None:
    other = {"gateway": "railstream_worker", "worker": "railstream_gateway"}[service]
    look = "import importlib.util as u, sys; print([n for n in sys.argv[1:] if u.find_spec(n)])"
    inside = await compose("exec", "-T", service, "python", "-c", look, *lacks, other, "pip", "railstream")
    assert inside == "['railstream']"


@pytest.mark.parametrize("service", ["gateway", "worker"])
async def test_a_container_has_no_rights_to_lose(service: str) -> None:
    assert await compose("exec", "-T", service, "id", "-u") == "10001"
    look = "import os; print([os.access(path, os.W_OK) for path in ('/', '/opt/railstream', '/configs', '/tmp')])"
    assert await compose("exec", "-T", service, "python", "-c", look) == "[False, False, False, True]"
    container = (await containers(service))[0]
    state = await docker("inspect", "--format", "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}}", container)
    assert state == "true [ALL]"
    assert "railstream" in await compose("exec", "-T", service, "cat", "/proc/1/cmdline")
