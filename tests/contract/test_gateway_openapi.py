"""The OpenAPI document says what is taken and what is answered, and that is what happens."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from contract.gateway_rig import QUESTION, Rig
from harness.sse import opened
from railstream import events
from railstream_gateway import openapi, openapi_answers


async def test_the_openapi_document_describes_the_bodies(rig: Rig) -> None:
    served = await rig.serve()
    document = (await rig.http.get(f"{served.url}/openapi.json")).json()
    body = document["paths"]["/v1/chat/completions"]["post"]["requestBody"]
    reference = body["content"]["application/json"]["schema"]["$ref"]
    assert "temperature" in document["components"]["schemas"][reference.rpartition("/")[2]]["properties"]


async def test_the_openapi_document_describes_sessions_and_flows_as_they_are(rig: Rig) -> None:
    served = await rig.serve()
    document = (await rig.http.get(f"{served.url}/openapi.json")).json()
    schemas = document["components"]["schemas"]
    shapes = {shape.__name__: shape for shape in openapi.SHAPES}

    def described(path: str, method: str, status: str = "200") -> str:
        responses = document["paths"][path][method]["responses"]
        given = responses.get(status) or responses["4XX"]
        if "$ref" in given:
            given = document["components"]["responses"][given["$ref"].rpartition("/")[2]]
        answer = given["content"]["application/json"]
        return str(answer["schema"]["$ref"].rpartition("/")[2])

    def fits(path: str, method: str, answer: Any, status: int = 200) -> Any:
        assert answer.status_code == status, answer.text
        shape = shapes[described(path, method, str(status))]
        assert msgspec.to_builtins(msgspec.convert(answer.json(), shape)) == answer.json()
        return answer.json()

    for path, operations in document["paths"].items():
        for method in operations if path.startswith(("/v1/sessions", "/v1/flows")) else ():
            assert described(path, method) in schemas
            if method == "post" and "cancel" not in path:
                assert "$ref" in operations[method]["requestBody"]["content"]["application/json"]["schema"]
    base, one = "/v1/sessions", "/v1/sessions/{id}"
    made = fits(base, "post", await rig.http.post(f"{served.url}{base}"))
    here = f"{served.url}{base}/{made['id']}"
    fits(base, "get", await rig.http.get(f"{served.url}{base}"))
    fits(one, "get", await rig.http.get(here))
    fits(one, "post", await rig.http.post(here, json={"name": "n", "metadata": {"k": "v"}}))
    branch = {"name": "b", "from": "main"}
    fits(f"{one}/branches", "post", await rig.http.post(f"{here}/branches", json=branch))
    own = f"{one}/branches/{{name}}"
    fits(own, "post", await rig.http.post(f"{here}/branches/b", json={"name": "c"}))
    body = QUESTION | {"railstream": {"session": made["id"], "branch": "c"}, "stream": True}
    async with opened(f"{served.completions}", body=body):
        fits(f"{own}/messages", "get", await rig.http.get(f"{here}/branches/c/messages"))
    fits(own, "delete", await rig.http.delete(f"{here}/branches/c"))
    operations = [{"id": "a", "instruction": "x"}, {"id": "b", "instruction": "y", "depends_on": ["a"]}]
    async with opened(f"{served.api}/flows", body={"operations": operations, "stream": True}) as stream:
        await rig.next_job()
        writer = await (await rig.next_job()).start()
        flow = f"{served.api}/flows/{stream.request_id}"
        fits("/v1/flows/{id}", "get", await rig.http.get(flow), 202)
        fits("/v1/flows/{id}/cancel", "post", await rig.http.post(f"{flow}/cancel"))
        await writer.write(*events.encode(events.OperationStarted("a", 0, "testing")))
        error = {"message": "m", "type": "t", "param": None, "code": "c"}
        await writer.write(*events.encode(events.OperationFinished("a", 0, "error", None, error)))
        await writer.write(*events.encode(events.OperationSkipped("b", 1, "'a' failed")))
        await writer.end(events.Finished(("error", ""), operations=2))
        await stream.read()
    told = fits("/v1/flows/{id}", "get", await rig.http.get(flow))
    assert [entry["status"] for entry in told["operations"]] == ["failed", "skipped"]
    fits(one, "delete", await rig.http.delete(here))
    fits(one, "get", await rig.http.get(here), 404)


async def test_the_reference_page_loads_nothing_from_other_hosts(rig: Rig) -> None:
    served = await rig.serve()
    for path in ("/docs", "/redoc"):
        answer = await rig.http.get(f"{served.url}{path}")
        assert answer.status_code == 200
        assert not re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:)?//""", answer.text)
        assert "connect-src 'self'" in answer.headers["content-security-policy"]


async def test_the_document_names_parameters_streams_errors_and_who_may_ask(rig: Rig) -> None:
    served = await rig.serve()
    document = (await rig.http.get(f"{served.url}/openapi.json")).json()

    def names(method: str, path: str) -> set[str]:
        return {one["name"] for one in document["paths"][path][method]["parameters"]}

    chat, one = "/v1/chat/completions", "/v1/chat/completions/{id}"
    assert names("post", chat) == {"Idempotency-Key", "X-Railstream-On-Disconnect"}
    position = {"Last-Event-ID", "starting_after", "X-Railstream-On-Disconnect", "id"}
    assert names("get", one) == {*position, "stream"}
    assert names("get", f"{one}/events") == position
    for method, path in (("post", chat), ("get", one), ("get", f"{one}/events"), ("post", "/v1/flows")):
        assert "text/event-stream" in document["paths"][path][method]["responses"]["200"]["content"]
    assert "202" in document["paths"][one]["get"]["responses"]
    assert document["components"]["securitySchemes"]["ApiKey"]["scheme"] == "bearer"
    assert {} in document["security"], "without keys configured everybody may ask"
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["tags"][0] in {tag["name"] for tag in document["tags"]}
            assert operation["description"]
            if path.startswith("/v1/"):
                assert {"401", "403", "503"} <= operation["responses"].keys()
            else:
                assert operation["security"] == []
            for parameter in operation.get("parameters", []):
                assert parameter["description"], (path, parameter["name"])
    for name, schema in document["components"]["schemas"].items():
        for field, described in schema.get("properties", {}).items():
            assert described["description"], f"{name}.{field}"


async def test_with_keys_the_document_requires_one(rig: Rig) -> None:
    served = await rig.serve(api_keys="key-1")
    document = (await rig.http.get(f"{served.url}/openapi.json")).json()
    assert document["security"] == [{"ApiKey": []}]


async def test_every_reference_of_the_document_leads_somewhere(rig: Rig) -> None:
    served = await rig.serve()
    text = (await rig.http.get(f"{served.url}/openapi.json")).text
    document = msgspec.json.decode(text)
    for reference in set(re.findall(r'"\$ref":"#/([^"]+)"', text)):
        at: Any = document
        for part in reference.split("/"):
            at = at[part]
        assert at


async def test_answers_are_as_the_document_describes_them(rig: Rig) -> None:
    served = await rig.serve()
    for path, shape in (
        ("/livez", openapi_answers.Alive),
        ("/readyz", openapi_answers.Ready),
        ("/v1/models", openapi_answers.ModelList),
        ("/v1/rails/configs", list[openapi_answers.ConfigId]),
    ):
        answer = (await rig.http.get(f"{served.url}{path}")).json()
        assert msgspec.to_builtins(msgspec.convert(answer, shape)) == answer
    async with opened(served.completions, body=QUESTION | {"stream": True}) as stream:
        status = (await rig.http.get(f"{served.completions}/{stream.request_id}")).json()
        assert msgspec.to_builtins(msgspec.convert(status, openapi_answers.CompletionStatus)) == status
        writer = await (await rig.next_job()).start()
        await writer.write(b"chunk", b'{"content":"Hello"}')
        await writer.end(
            events.Finished(("stop",), usage={"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2})
        )
        await stream.read()
    told = (await rig.http.get(f"{served.completions}/{stream.request_id}")).json()
    assert msgspec.to_builtins(msgspec.convert(told, openapi_answers.ChatCompletion)) == told
