"""Every wrong request is refused before the queue, with its status, its code and the field that is wrong."""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from pathlib import Path
from typing import Any

import httpx2
import pytest
from contract.gateway_rig import QUESTION, Rig
from harness.sse import opened
from harness.stack import write_configs
from harness.waiting import until
from railstream import keys, worker_records
from railstream.config import ConfigSet
from railstream.ids import new_request_id
from railstream.worker_records import WorkerRecord
from railstream_worker.queue.group import ensure_group

HI = [{"role": "user", "content": "hi"}]
BAD: list[tuple[dict[str, Any], int, str | None, str]] = [
    ({"messages": []}, 400, "messages", "invalid_request"),
    ({"messages": None}, 400, "messages", "invalid_request"),
    ({"messages": [{"role": "user", "content": 3}]}, 400, "messages[0].content", "invalid_request"),
    ({"messages": [{"role": "narrator", "content": "x"}]}, 400, "messages[0].role", "invalid_request"),
    ({"messages": [{"role": "user"}]}, 400, "messages[0].content", "invalid_request"),
    ({"messages": HI, "temperature": "hot"}, 400, "temperature", "invalid_request"),
    ({"messages": HI, "temperature": 3}, 400, "temperature", "invalid_request"),
    ({"messages": HI, "n": 0}, 400, "n", "invalid_request"),
    ({"messages": HI, "max_tokens": 0}, 400, "max_tokens", "invalid_request"),
    ({"messages": HI, "stream": "yes"}, 400, "stream", "invalid_request"),
    ({"messages": HI, "stream_options": {"include_usage": True}}, 400, "stream_options", "invalid_request"),
    ({"messages": HI, "top_logprobs": 2}, 400, "top_logprobs", "invalid_request"),
    ({"messages": HI, "min_p": 0.1}, 400, "min_p", "unknown_option"),
    ({"messages": HI, "temprature": 1}, 400, "temprature", "unknown_option"),
    ({"messages": HI, "functions": []}, 400, "functions", "unsupported"),
    ({"messages": HI, "audio": {}}, 400, "audio", "unsupported"),
    ({"messages": HI, "modalities": ["text", "audio"]}, 400, "modalities[1]", "invalid_request"),
    ({"messages": HI, "railstream": {"session": "x"}}, 404, "session", "session_not_found"),
    ({"messages": HI, "guardrails": {"config_id": "none"}}, 400, "guardrails.config_id", "config_not_found"),
    ({"messages": HI, "config_id": "../../etc/passwd"}, 400, "guardrails.config_id", "config_not_found"),
    ({"messages": HI, "config_ids": ["plain", "none"]}, 400, "guardrails.config_id", "config_not_found"),
    ({"messages": HI, "guardrails": {"confg_id": "plain"}}, 400, "guardrails.confg_id", "unknown_option"),
    ({"messages": HI, "config_id": "plain", "guardrails": {"config_id": "other"}}, 400, "guardrails.config_id", ""),
    ({"messages": HI, "options": {"llm_params": {"model": "x"}}}, 400, "options.llm_params.model", "unknown_option"),
    ({"messages": HI, "options": {"log": {"internal_events": True}}}, 400, "options.log.internal_events", ""),
    ({"messages": HI, "model": "gpt-unknown"}, 404, "model", "model_not_found"),
    ({"messages": HI, "model": "whole", "guardrails": {"config_id": "plain"}}, 404, "model", "model_not_found"),
    ({"messages": HI, "config_ids": ["plain", "other"]}, 400, "guardrails.config_ids", ""),
    ({"messages": HI, "config_id": "extra"}, 400, "guardrails.config_id", ""),
    ({"messages": HI, "model": "whole", "stream": True}, 400, "stream", "streaming_not_supported"),
]


@pytest.mark.parametrize(("body", "status", "param", "code"), BAD, ids=lambda value: json.dumps(value)[:60])
async def test_a_wrong_body_is_refused_by_name(
    rig: Rig, body: dict[str, Any], status: int, param: str | None, code: str
) -> None:
    served = await rig.serve()
    answer = await rig.http.post(served.completions, json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, param), error
    assert error["type"] == "invalid_request_error"
    assert error["code"] == code or not code
    assert await rig.queued() == 0


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"messages": NaN}', b"[" * 200_000, b'{"a":1}{"b":2}']
    + [b'{"messages":[],"context":%b1%b}' % (b'{"a":' * depth, b"}" * depth) for depth in (128, 946, 949, 952)],
)
async def test_what_is_not_a_json_object_is_400(rig: Rig, body: bytes) -> None:
    served = await rig.serve()
    answer = await rig.http.post(served.completions, content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "malformed_json"


async def test_streaming_names_the_setting_that_forbids_it(rig: Rig) -> None:
    served = await rig.serve()
    answer = await rig.http.post(served.completions, json={"messages": HI, "model": "whole", "stream": True})
    assert "rails.output.streaming.enabled" in answer.json()["error"]["message"]


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_over_the_limit_is_413(rig: Rig, announced: bool) -> None:
    served = await rig.serve(body_limit=1000)
    body = json.dumps(QUESTION | {"user": "x" * 1000}).encode()
    if announced:
        answer = await rig.http.post(served.completions, content=body)
        status, error = answer.status_code, answer.json()["error"]
    else:
        chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n" + chunked
        )
        head = await reader.readuntil(b"\r\n\r\n")
        status, error = int(head.split(b" ")[1]), {"code": "body_too_large"}
        writer.close()
    assert (status, error["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(("encoding", "wbits"), [("gzip", 31), ("deflate", 15)])
async def test_a_compressed_body_is_read_and_counts_by_what_it_unfolds_to(rig: Rig, encoding: str, wbits: int) -> None:
    served = await rig.serve(body_limit=100_000)

    async def post(body: bytes) -> httpx2.Response:
        packed = zlib.compress(body, wbits=wbits)
        headers = {"content-encoding": encoding, "content-type": "application/json"}
        return await rig.http.post(served.completions, content=packed, headers=headers)

    posted = asyncio.create_task(post(json.dumps(QUESTION).encode()))
    writer = await (await rig.next_job()).start()
    await writer.say("a")
    await writer.finish()
    assert (await posted).status_code == 200
    bomb = await post(b" " * 10_000_000)
    assert (bomb.status_code, bomb.json()["error"]["code"]) == (413, "body_too_large")
    cut = await rig.http.post(
        served.completions, content=zlib.compress(b"{}", wbits=wbits)[:-3], headers={"content-encoding": encoding}
    )
    assert (cut.status_code, cut.json()["error"]["code"]) == (400, "encoding")


async def test_an_unknown_encoding_of_a_body_is_400_and_names_those_that_are_read(rig: Rig) -> None:
    served = await rig.serve()
    answer = await rig.http.post(served.completions, content=b"x", headers={"content-encoding": "br"})
    assert answer.status_code == 400
    assert "gzip" in answer.json()["error"]["message"]


async def test_a_config_is_chosen_by_id_by_model_or_by_default(rig: Rig) -> None:
    served = await rig.serve()
    for given, config, model in (
        ({}, ("plain",), "testing"),
        ({"model": "vendor/other-1"}, ("other",), "vendor/other-1"),
        ({"guardrails": {"config_id": "other"}}, ("other",), "vendor/other-1"),
        ({"config_ids": ["plain", "extra"], "model": "testing"}, ("plain", "extra"), "testing"),
    ):
        body = {"messages": HI, "stream": True} | given
        async with opened(served.completions, body=body, headers={"x-railstream-on-disconnect": "continue"}):
            job = (await rig.next_job()).job
            assert (job.configs, job.model) == (config, model)


async def test_options_travel_as_they_were_sent(rig: Rig) -> None:
    served = await rig.serve()
    options = {
        "temperature": 0.5,
        "max_tokens": 7,
        "stop": ["a", "b"],
        "seed": 1,
        "logit_bias": {"50256": -100},
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
        "reasoning_effort": "low",
        "metadata": {"a": "b"},
        "tool_choice": "auto",
        "user": "someone",
    }
    messages = [{"role": "user", "content": "hi", "vendor_key": {"kept": True}}]
    async with served.ask(
        **options, messages=messages, presence_penalty=None, context={"a": 1}, options={"log": {"llm_calls": True}}
    ):
        job = (await rig.next_job()).job
    assert job.params == options
    assert job.messages == messages
    assert (job.context, job.options) == ({"a": 1}, {"log": {"llm_calls": True}})


KEYS = {"api_keys": ("key-1", "key-2")}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Basic abc"}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Bearer key-3"}, 401),
        ({"x-api-key": "key-3"}, 401),
        ({"x-api-key": "key-1"}, 200),
        ({"api-key": "key-2"}, 200),
        ({"authorization": "Bearer key-2"}, 200),
    ],
)
async def test_a_missing_key_is_401_and_so_is_a_wrong_one(rig: Rig, headers: dict[str, str], status: int) -> None:
    served = await rig.serve(**KEYS)
    answer = await rig.http.get(f"{served.api}/models", headers=headers)
    assert answer.status_code == status
    assert (await rig.http.get(f"{served.url}/livez")).status_code == 200


async def test_a_request_of_another_key_is_not_found(rig: Rig) -> None:
    served = await rig.serve(**KEYS)
    first, second = {"authorization": "Bearer key-1"}, {"authorization": "Bearer key-2"}
    async with served.ask(headers=first):
        writer = await rig.next_job()
        assert "key-1" not in str(writer.job)
        for path in ("", "?stream=true", "/events"):
            assert (await rig.http.get(f"{served.completions}/{writer.id}{path}", headers=second)).status_code == 404
        cancel = await rig.http.post(f"{served.completions}/{writer.id}/cancel", headers=second)
        assert cancel.status_code == 404
        assert (await rig.http.get(f"{served.completions}/{writer.id}", headers=first)).status_code == 202


@pytest.mark.parametrize("id", ["nonsense", "chatcmpl-1", "..%2f..", "new"])
@pytest.mark.parametrize("path", ["", "?stream=true", "/events"])
async def test_an_unknown_id_is_404(rig: Rig, id: str, path: str) -> None:
    served = await rig.serve()
    name = new_request_id() if id == "new" else id
    answer = await rig.http.get(f"{served.completions}/{name}{path}")
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "cursor", ["-1", "$", "1", "1-", "a-b", "1-99", "2-0", "0-5", "\u0661-\u0661", "1-2-3", "9" * 40 + "-1"]
)
async def test_a_last_event_id_that_is_not_of_the_stream_is_400(rig: Rig, cursor: str) -> None:
    served = await rig.serve()
    async with served.ask() as stream:
        writer = await (await rig.next_job()).start()
        await writer.say("a")
        await stream.read(frames=2)
        for ended in (False, True):
            if ended:
                await writer.finish()
            for path in ("?stream=true", "/events"):
                url = f"{served.completions}/{writer.id}{path}"
                answer = await rig.http.get(url, headers={"last-event-id": cursor.encode()})
                assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_cursor")


async def test_unknown_routes_and_methods_answer_in_the_envelope(rig: Rig) -> None:
    served = await rig.serve()
    for method, path, status in (("GET", "/v1/nothing", 404), ("DELETE", "/v1/models", 405), ("GET", "/nothing", 404)):
        answer = await rig.http.request(method, served.url + path)
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


async def test_a_queue_over_its_bound_is_429_and_an_old_one_503(rig: Rig) -> None:
    served = await rig.serve(queue_limit=2, queue_age_limit=60)
    admission = served.gateway.admission
    for _ in range(2):
        await rig.redis.xadd(keys.jobs(), {"__data__": b"x"})
    await admission.sample("")
    answer = await rig.http.post(served.completions, json=QUESTION)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")
    assert int(answer.headers["retry-after"]) >= 1
    await rig.redis.delete(keys.jobs())
    await rig.redis.xadd(keys.jobs(), {"__data__": b"x"}, id=f"{int((time.time() - 90) * 1000)}-0")
    await admission.sample("")
    answer = await rig.http.post(served.completions, json=QUESTION)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "queue_too_old")
    assert int(answer.headers["retry-after"]) >= 1


async def test_jobs_that_workers_have_taken_do_not_count_as_waiting(rig: Rig) -> None:
    served = await rig.serve()
    for _ in range(3):
        await rig.redis.xadd(keys.jobs(), {"__data__": b"x"})
    await ensure_group(rig.redis, keys.jobs())  # a gateway may have made it already
    await rig.redis.xreadgroup(keys.GROUP, "w", {keys.jobs(): ">"}, count=2)
    await served.gateway.admission.sample("")
    assert served.gateway.admission.queues()[""].waiting == 1


async def test_what_was_let_in_since_the_sample_counts(rig: Rig) -> None:
    served = await rig.serve(queue_limit=3)
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(_status(served.completions)) for _ in range(20)]
    statuses = [task.result() for task in asked]
    assert statuses.count(200) == await rig.queued()
    assert statuses.count(200) <= 6
    assert set(statuses) == {200, 429}


async def _status(url: str) -> int:
    async with opened(url, body=QUESTION | {"stream": True}, headers={"x-railstream-on-disconnect": "continue"}) as got:
        return got.status


async def test_more_streams_than_a_gateway_holds_are_503(rig: Rig) -> None:
    served = await rig.serve(max_streams=1)
    async with served.ask():
        answer = await rig.http.post(served.completions, json=QUESTION)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "too_many_streams")


async def test_readyz_wants_redis_and_a_worker(rig: Rig) -> None:
    served = await rig.serve()
    assert (await rig.http.get(f"{served.url}/readyz")).status_code == 503
    await rig.redis.zadd(keys.WORKERS, {"w": time.time() - 60})
    assert (await rig.http.get(f"{served.url}/readyz")).status_code == 503
    await worker_records.write(rig.redis, WorkerRecord("w", version=1))
    answer = await rig.http.get(f"{served.url}/readyz")
    assert (answer.status_code, answer.json()["workers"]) == (200, 1)


async def test_readyz_counts_workers_of_its_own_pools_and_names_those_that_nobody_serves(rig: Rig) -> None:
    served = await rig.serve()
    await worker_records.write(rig.redis, WorkerRecord("other", pool="gpu", version=1))
    answer = await rig.http.get(f"{served.url}/readyz")
    assert (answer.status_code, answer.json()["workers"]) == (503, 0)
    assert answer.json()["unserved_pools"] == ["default"]
    feeding = await rig.serve(pool="gpu")
    assert (await rig.http.get(f"{feeding.url}/readyz")).json()["pools"] == {"gpu": 1}


async def test_a_gateway_of_two_pools_is_ready_with_one_and_counts_the_workers_of_both(
    rig: Rig, tmp_path: Path
) -> None:
    two = {"main": {}, "large": {"railstream": {"pool": "gpu"}}}
    rig.configs = ConfigSet.load(write_configs(tmp_path / "two", "http://127.0.0.1:1/v1", two))
    served = await rig.serve()
    await worker_records.write(rig.redis, WorkerRecord("w", version=1))
    answer = await rig.http.get(f"{served.url}/readyz")
    assert (answer.status_code, answer.json()["unserved_pools"]) == (200, ["gpu"])
    await served.gateway.admission.count_workers()
    page = (await rig.http.get(f"{served.url}/metrics")).text
    assert 'railstream_pool_workers{railstream_pool="default"} 1\n' in page
    assert 'railstream_pool_workers{railstream_pool="gpu"} 0\n' in page


async def test_readyz_is_503_while_redis_refuses_writes(rig: Rig) -> None:
    served = await rig.serve()
    await worker_records.write(rig.redis, WorkerRecord("w", version=1))
    assert (await rig.http.get(f"{served.url}/readyz")).status_code == 200
    await rig.redis.config_set("min-replicas-to-write", 1)
    try:
        answer = await rig.http.get(f"{served.url}/readyz")
    finally:
        await rig.redis.config_set("min-replicas-to-write", 0)
    assert (answer.status_code, answer.json()["redis"]) == (503, False)


async def test_a_redis_that_is_down_is_503_at_once(rig: Rig, start_redis: Any) -> None:
    server = start_redis()
    served = await rig.serve(redis_url=server.url, redis_timeout=0.5)
    server.kill()
    await until(lambda: not served.gateway.admission.redis_is_up)
    for method, url in (("POST", served.completions), ("GET", f"{served.completions}/{new_request_id()}")):
        answer = await rig.http.request(method, url, json=QUESTION)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "redis_unavailable")
        assert answer.headers["retry-after"]
    assert (await rig.http.get(f"{served.url}/readyz")).status_code == 503
    assert (await rig.http.get(f"{served.url}/livez")).status_code == 200
    server.start()
    await until(lambda: served.gateway.admission.redis_is_up and served.gateway.hub.connected)
    assert await _status(served.completions) == 200


async def test_models_and_configs_are_listed(rig: Rig) -> None:
    served = await rig.serve()
    async with served.client() as client:
        models = [model.id async for model in await client.models.list()]
        assert set(models) == {"testing", "vendor/other-1", "whole", "streamed"}
        assert (await client.models.retrieve("vendor/other-1")).id == "vendor/other-1"
    assert (await rig.http.get(f"{served.api}/models/none")).status_code == 404
    configs = await rig.http.get(f"{served.api}/rails/configs")
    assert [entry["id"] for entry in configs.json()] == ["extra", "other", "plain", "streamed", "whole"]


async def test_headers_that_never_end_or_never_come_close_the_connection(rig: Rig) -> None:
    served = await rig.serve(header_timeout=0.5)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n")
    assert await reader.read() == b""
    writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n" + b"a: %b\r\n" % (b"b" * 1000) * 80)
    assert (await reader.read()).startswith(b"HTTP/1.1 431 ")
    writer.close()
