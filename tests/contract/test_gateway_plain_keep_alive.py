"""A plain answer that takes long: its connection lives, its id is known early, and a cut loses nothing."""

from __future__ import annotations

import asyncio
import json

from contract.gateway_rig import QUESTION, Rig
from harness.waiting import until
from railstream import events, keys

CONTINUE = {"x-railstream-on-disconnect": "continue"}


async def test_a_plain_answer_is_preceded_by_blanks_and_is_the_same_json(rig: Rig) -> None:
    served = await rig.serve(plain_keep_alive=0.05)
    async with rig.http.stream("POST", served.completions, json=QUESTION) as answer:
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        body = answer.aiter_bytes()
        assert not (await anext(body)).strip()
        writer = await (await rig.next_job()).start()
        assert answer.headers["x-request-id"] == writer.id
        await (await writer.say("a")).finish()
        whole = b"".join([piece async for piece in body])
    assert json.loads(whole)["choices"][0]["message"]["content"] == "a"
    assert whole.strip() == (await rig.http.get(f"{served.completions}/{writer.id}")).content


async def test_an_error_after_the_first_blank_stands_in_the_envelope(rig: Rig) -> None:
    served = await rig.serve(plain_keep_alive=0.05)
    async with rig.http.stream("POST", served.completions, json=QUESTION) as answer:
        writer = await (await rig.next_job()).start()
        await writer.end(events.Failed({"message": "m", "code": "timeout"}, status=504))
        assert json.loads(await answer.aread())["error"]["code"] == "timeout"


async def test_an_answer_that_comes_before_the_first_blank_has_its_own_status(rig: Rig) -> None:
    served = await rig.serve(plain_keep_alive=30)
    asking = asyncio.create_task(rig.http.post(served.completions, json=QUESTION))
    writer = await (await rig.next_job()).start()
    await writer.end(events.Failed({"message": "m", "code": "timeout"}, status=504))
    assert (await asking).status_code == 504


async def test_a_client_that_leaves_between_blanks_cancels_and_one_that_may_come_back_fetches_the_answer(
    rig: Rig,
) -> None:
    served = await rig.serve(plain_keep_alive=0.05)
    for headers, cancel in (({}, b"disconnect"), (CONTINUE, None)):
        async with rig.http.stream("POST", served.completions, json=QUESTION, headers=headers) as answer:
            writer = await (await rig.next_job()).start()
            id = answer.headers["x-request-id"]
        await until(lambda: not len(served.gateway.open_streams))
        if cancel:

            async def cancelled(id: str = id) -> bool:
                return await rig.redis.hget(keys.request(id), "cancel") == b"disconnect"

            await until(cancelled)
    await (await writer.say("b")).finish()
    assert (await rig.http.get(f"{served.completions}/{id}")).json()["choices"][0]["message"]["content"] == "b"
