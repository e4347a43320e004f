"""G5, G6: a Redis that dies and comes back, with all it knew or less; that is emptied; that fails over."""

from __future__ import annotations

import asyncio

import pytest
from chaos import stories
from chaos.clients import Client
from chaos.conftest import StartWorld
from chaos.faults import Faults, streaming
from chaos.refusals import REFUSALS
from chaos.world import LEASE, World
from harness.redis_server import Fsync
from harness.sse import opened
from harness.waiting import until
from railstream import keys

pytestmark = [pytest.mark.chaos, pytest.mark.asyncio(loop_scope="session")]


@pytest.mark.parametrize("fsync", ["always", "everysec"])
async def test_g5_streams_go_on_through_a_redis_that_is_killed_and_restarts(
    start_world: StartWorld, fsync: Fsync
) -> None:
    world = await start_world(**({} if fsync == "everysec" else {"aof": fsync}))
    clients = stories.ask(world, 10, words=100)
    tasks = stories.start(clients)
    faults = Faults(world, clients)
    await streaming(clients)
    await faults.kill_redis()
    late = stories.ask(world, 4, words=20)  # they ask while everyone reconnects
    tasks += stories.start(late)
    await asyncio.sleep(1)  # a second outage, once the first is over
    await faults.kill_redis()
    verdict = await stories.judged(world, clients + late, tasks)
    assert verdict.counts["finished"] == 14
    assert verdict.counts["gaps said"] == 0


async def test_g5_workers_that_live_give_a_redis_its_lost_tail_back(start_world: StartWorld) -> None:
    world = await start_world(gateways=3, workers=1, settings={"RAILSTREAM_LEASE": "5"})
    clients = stories.ask(world, 8, words=80)
    tasks = stories.start(clients)
    faults = Faults(world, clients)
    await streaming(clients, chunks=20)
    await faults.kill_redis(cut=4000)
    verdict = await stories.judged(world, clients, tasks)
    assert verdict.counts["finished"] == 8


async def test_g5_a_tail_that_nobody_can_give_back_is_missed_aloud(start_world: StartWorld) -> None:
    world = await start_world(workers=1, gateways=1)
    clients = stories.ask(world, 6, words=80)
    tasks = stories.start(clients)
    faults = Faults(world, clients)
    await streaming(clients, chunks=20)
    await world.workers[0].kill()
    await faults.kill_redis(cut=4000)
    world.workers[0].start()
    verdict = await stories.judged(world, clients, tasks)
    assert verdict.counts["finished"] + verdict.counts["losses said"] == 6
    assert verdict.counts["gaps said"] + verdict.counts["losses said"] >= 1


async def test_g5_an_accepted_job_that_redis_forgot_is_not_waited_for_in_silence(start_world: StartWorld) -> None:
    world = await start_world(workers=1, gateways=1)
    world.workers[0].freeze()
    client = stories.ask(world, 1)[0]
    task = asyncio.create_task(client.run())
    await until(lambda: queued(world) == 1, what="it is queued")
    with world.redis.client() as redis:  # what is left when the tail of an AOF is cut between the hash and the job
        redis.xtrim(keys.jobs(), maxlen=0, approximate=False)
        redis.hdel(keys.request(client.request_id), "enqueued")
    client.forgotten = True
    client.patience = 20
    await until(lambda: client.before_gaps or client.lost or client.error, timeout=20, what="it is told")
    task.cancel()


def queued(world: World) -> int:
    with world.redis.client() as redis:
        return int(redis.xlen(keys.jobs()))


async def test_g5_an_emptied_redis_ends_streams_whole_or_aloud(start_world: StartWorld) -> None:
    world = await start_world()
    clients = stories.ask(world, 8, words=60)
    tasks = stories.start(clients)
    await streaming(clients)
    await Faults(world, clients).flush_redis()
    await stories.judged(world, clients, tasks)
    fresh = stories.ask(world, 4, words=10)
    verdict = await stories.judged(world, fresh, stories.start(fresh))
    assert verdict.counts["finished"] == 4


async def test_g5_a_group_that_is_gone_is_made_again(start_world: StartWorld) -> None:
    world = await start_world()
    with world.redis.client() as redis:
        redis.xgroup_destroy(keys.jobs(), keys.GROUP)
    clients = stories.ask(world, 4, words=10)
    verdict = await stories.judged(world, clients, stories.start(clients))
    assert verdict.counts["finished"] == 4


async def test_g6_a_failover_to_a_lagging_replica_loses_nothing_in_silence_and_mixes_nothing(
    start_world: StartWorld,
) -> None:
    world = await start_world()
    clients = stories.ask(world, 12, words=110)
    tasks = stories.start(clients)
    faults = Faults(world, clients)
    await streaming(clients)
    asking: list[Client] = []

    async def ask_meanwhile() -> None:
        """Some begin in what the replica never hears of."""
        await asyncio.sleep(0.4)
        asking.extend(stories.ask(world, 6, words=60))
        faults.clients += asking
        tasks.extend(stories.start(asking))

    await asyncio.gather(faults.fail_over(lag=2.5), ask_meanwhile())
    verdict = await stories.judged(world, clients + asking, tasks)
    ends = ("finished", "losses said", "ended before a loss")
    assert sum(verdict.counts[end] for end in ends) == 18, verdict.counts


async def test_g6_a_master_that_became_a_replica_is_no_place_to_write_and_nobody_gives_up(
    start_world: StartWorld,
) -> None:
    world = await start_world(workers=1, gateways=1)
    clients = stories.ask(world, 4, words=60)
    tasks = stories.start(clients)
    await streaming(clients)
    await Faults(world, clients).refuse_writes("read-only", 1)  # shorter than the lease: they only have to wait
    verdict = await stories.judged(world, clients, tasks)
    assert verdict.counts["finished"] == 4


@pytest.mark.parametrize("kind", REFUSALS)
async def test_g19_a_redis_that_takes_no_writes_for_many_leases_kills_no_accepted_job(
    start_world: StartWorld, kind: str
) -> None:
    world = await start_world(settings={"RAILSTREAM_MAX_DELIVERIES": "3"})
    clients = stories.ask(world, 6, words=80)
    tasks = stories.start(clients)
    await streaming(clients)
    late = stories.ask(world, 2, words=20)  # they ask while nothing can be accepted
    with world.redis.client() as redis:
        before = redis.xlen(keys.DEAD)
    refusal = asyncio.create_task(Faults(world, clients).refuse_writes(kind, 6 * LEASE))
    await asyncio.sleep(LEASE)
    tasks += stories.start(late)
    await refusal
    verdict = await stories.judged(world, clients + late, tasks)
    assert verdict.counts["finished"] == 8
    assert verdict.counts["gaps said"] == 0
    with world.redis.client() as redis:
        assert redis.xlen(keys.DEAD) == before


async def test_g5_an_emptied_redis_is_given_the_streams_of_full_workers_again(start_world: StartWorld) -> None:
    world = await start_world(workers=0, gateways=1)
    await (await world.add_worker(concurrency=3)).ready()
    clients = stories.ask(world, 3, words=100)
    tasks = stories.start(clients)
    await streaming(clients)
    world.redis.flush()
    verdict = await stories.judged(world, clients, tasks)
    assert verdict.counts["finished"] == 3
    assert verdict.counts["gaps said"] == 0


async def test_g20_a_job_that_nobody_understands_ends_its_clients_stream(start_world: StartWorld) -> None:
    world = await start_world(workers=1, gateways=1)
    await world.workers[0].kill()
    client = stories.ask(world, 1)[0]
    async with opened(f"{world.gateways[0].api}/chat/completions", body=client.question.body()) as stream:
        await until(lambda: queued(world) == 1, what="it is queued")
        with world.redis.client() as redis:  # as a newer gateway would have written it
            ((entry, fields),) = redis.xrange(keys.jobs())
            body = fields[b"__data__"].replace(b'"version":1', b'"version":9')
            redis.xdel(keys.jobs(), entry)
            redis.xadd(keys.jobs(), {"__data__": body})
        world.workers[0].start()
        await stream.read()
    assert stream.frames[-2].json["error"]["code"] == "job_not_understood"
    assert stream.done
