"""What web pages may do with a gateway, with API keys and without."""

from __future__ import annotations

import re

import pytest
from contract.gateway_rig import QUESTION, Rig
from railstream_gateway.browsers import host_name, is_loopback

PAGE = "https://page.example"
KEYED = {"api_keys": ("key-1",)}
KEY = {"authorization": "Bearer key-1"}
SIMPLE = {"content-type": "text/plain"}
PREFLIGHT = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type",
}


@pytest.mark.parametrize("origin", [PAGE, "null", "http://localhost:1", "http://127.0.0.1", "http://[::1]:8000", ""])
async def test_a_page_of_another_origin_spends_nothing_at_a_keyless_gateway(rig: Rig, origin: str) -> None:
    served = await rig.serve()
    for path in ("chat/completions", "checks", "flows", "sessions"):
        answer = await rig.http.post(f"{served.api}/{path}", json=QUESTION, headers={"origin": origin, **SIMPLE})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "origin_not_allowed")
        assert "access-control-allow-origin" not in answer.headers
    assert await rig.queued() == 0


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil", ""])
async def test_a_name_that_was_rebound_to_this_address_reads_nothing(rig: Rig, host: str) -> None:
    served = await rig.serve()
    for path in ("/v1/models", "/", "/openapi.json"):
        answer = await rig.http.get(f"{served.url}{path}", headers={"host": host})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "host_not_allowed"), path
    same = {"host": host, "origin": f"http://{host}"}
    assert (await rig.http.post(served.completions, json=QUESTION, headers=same)).status_code == 403
    assert (await rig.http.get(f"{served.url}/livez", headers={"host": host})).status_code == 200
    assert await rig.queued() == 0


async def test_the_gateways_own_page_and_programs_are_let_in(rig: Rig) -> None:
    served = await rig.serve(allowed_hosts=("api.example",))
    for host in (
        f"127.0.0.1:{served.port}",
        "localhost",
        "app.localhost:80",
        "[::1]:8000",
        "api.example",
        "API.example.",
    ):
        for headers in ({}, {"origin": f"http://{host}"}):
            answer = await rig.http.get(f"{served.api}/models", headers={"host": host, **headers})
            assert answer.status_code == 200, (host, headers)


async def test_a_listed_origin_may_read_and_a_preflight_says_what_it_may_send(rig: Rig) -> None:
    for settings in ({}, KEYED):
        served = await rig.serve(cors_origins=(PAGE,), **settings)
        asked = await rig.http.options(served.completions, headers={"origin": PAGE, **PREFLIGHT})
        assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (204, PAGE)
        assert asked.headers["access-control-allow-headers"] == "authorization,content-type"
        assert "POST" in asked.headers["access-control-allow-methods"]
        answer = await rig.http.get(f"{served.api}/models", headers={"origin": PAGE, **KEY})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, PAGE)
        assert "x-request-id" in answer.headers["access-control-expose-headers"]
        assert answer.headers["vary"] == "origin"
        other = await rig.http.options(served.completions, headers={"origin": "https://other.example", **PREFLIGHT})
        assert (other.status_code, other.headers.get("access-control-allow-origin")) == (403, None)


async def test_a_refusal_can_be_read_by_a_page_that_may_ask(rig: Rig) -> None:
    served = await rig.serve(cors_origins=("*",), **KEYED)
    answer = await rig.http.post(served.completions, json=QUESTION, headers={"origin": PAGE})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, PAGE)


async def test_a_stream_can_be_read_by_a_page_that_may_ask(rig: Rig) -> None:
    served = await rig.serve(cors_origins=(PAGE,))
    async with served.ask(headers={"origin": PAGE}) as stream:
        writer = await (await rig.next_job()).start()
        await writer.say("a", "b")
        await writer.finish()
        await stream.read()
    assert (stream.status, stream.headers["access-control-allow-origin"], stream.text) == (200, PAGE, "ab")


async def test_with_keys_any_host_and_origin_may_ask_and_only_a_listed_one_reads(rig: Rig) -> None:
    served = await rig.serve(**KEYED)
    answer = await rig.http.get(f"{served.api}/models", headers={"host": "api.example", "origin": PAGE, **KEY})
    assert (answer.status_code, answer.headers.get("access-control-allow-origin")) == (200, None)


async def test_the_page_loads_nothing_from_other_hosts_and_stands_in_no_frame(rig: Rig) -> None:
    served = await rig.serve()
    for path in ("/", "/docs"):
        page = await rig.http.get(f"{served.url}{path}")
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert page.headers["x-content-type-options"] == "nosniff"
        assert not re.search(r"(src|@import|url\()\s*=?\s*[\"']?(https?:)?//", page.text)


def test_a_host_is_read_without_its_port() -> None:
    assert [host_name(host) for host in ("A.b:1", "[::1]:2", "a.", "x y:z", "[::1")] == ["a.b", "::1", "a", "x y", ""]
    assert not any(map(is_loopback, ("", "128.0.0.1", "localhost.x", "xlocalhost", "0.0.0.0", "10.0.0.1")))
    assert all(map(is_loopback, ("127.9.9.9", "::1", "localhost", "a.localhost")))
