"""The OpenAPI document says what is taken and what is answered, and that is what happens."""

from __future__ import annotations

from typing import Any

import msgspec
from contract.gateway_rig import QUESTION, Rig
from harness.sse import opened
from railstream import events
from railstream_gateway import openapi


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
        answer = (responses.get(status) or responses["4XX"])["content"]["application/json"]
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
