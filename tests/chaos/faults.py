"""What is done to a world: each fault is one awaitable that breaks something and mends it again."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Sequence
from typing import cast

import msgspec
import redis
from chaos.clients import Client, Question
from chaos.refusals import REFUSALS, refusing
from chaos.takeovers import Takeovers
from chaos.world import LEASE, SCAN, World
from harness import proxy
from harness.processes import Gateway, Worker
from harness.proxy import Fault, Proxy
from harness.redis_server import RedisServer
from harness.sse import fetch
from harness.stack import MODEL
from harness.waiting import until
from railstream import job as jobs
from railstream import keys, requests
from railstream.ids import new_request_id
from railstream.job import Job

LEFT = 1
"""Processes of each kind that stay up, so that it is known who takes over."""
JOB_STREAM_LOSSES = ("DEL", "XTRIM", "XGROUP DESTROY")
NETWORK: dict[str, Fault] = {
    "latency": proxy.latency(0.05),
    "bandwidth": proxy.bandwidth(40_000),
    "timeout": proxy.timeout(),
    "slicer": proxy.slicer(64),
    "half-open up": proxy.half_open("up"),
    "half-open down": proxy.half_open("down"),
}
"""And ``reset`` and ``refuse``, which are no state of a connection."""


class Faults:
    """``injected`` counts by name. Add to ``clients`` whoever begins later."""

    def __init__(self, world: World, clients: Sequence[Client] = ()) -> None:
        self.world = world
        self.clients: list[Client] = list(clients)
        self.injected: Counter[str] = Counter()
        self.takeovers = Takeovers(world)
        self._random = world.random
        self._busy: set[str] = set()
        self._refusals = itertools.cycle(REFUSALS)
        self._losses = itertools.cycle(JOB_STREAM_LOSSES)
        self.wrong: list[str] = []
        """What a fault itself found to be other than promised."""

    @property
    def running(self) -> list[Client]:
        return [client for client in self.clients if client.request_id and not client.done]

    def _victim(self, processes: Sequence[Gateway | Worker], name: str = "") -> Gateway | Worker | None:
        free = [process for process in processes if process.running and process.name not in self._busy]
        named = [process for process in free if name in ("", process.name)]
        return self._random.choice(named) if named and len(free) > LEFT else None

    async def kill_worker(self, pause: float = 0.1, name: str = "") -> bool:
        """``kill -9``, then start it again."""
        worker = cast("Worker | None", self._victim(self.world.workers, name))
        if worker is None:
            return False
        attempts = self.takeovers.running_on(worker, [client.request_id for client in self.running])
        self.takeovers.disturb()
        self.takeovers.measure(attempts)
        self.injected["worker kills"] += 1
        self.injected["streams whose worker was killed"] += len(attempts)
        await self._kill_and_restart(worker, pause)
        return True

    def busiest_worker(self) -> str:
        """The name of the worker that runs most of the clients' requests."""
        requests = [client.request_id for client in self.running]
        return max(self.world.workers, key=lambda worker: len(self.takeovers.running_on(worker, requests))).name

    async def kill_gateway(self, pause: float = 0.1, name: str = "") -> bool:
        gateway = self._victim(self.world.gateways, name)
        if gateway is None:
            return False
        self.injected["gateway kills"] += 1
        await self._kill_and_restart(gateway, pause)
        return True

    async def _kill_and_restart(self, process: Gateway | Worker, pause: float) -> None:
        self._busy.add(process.name)
        try:
            await process.kill()
            await asyncio.sleep(pause)
            await self._start(process)
        finally:
            self._busy.discard(process.name)

    async def _start(self, process: Gateway | Worker) -> None:
        """As a supervisor does: whoever cannot start is started again."""
        while True:
            process.start()
            try:
                # Ready needs Redis as well, which another fault may take away for a while.
                await process.ready(60)
            except RuntimeError:
                self.injected["starts that failed"] += 1
            else:
                return

    async def zombie(self, seconds: float = LEASE + 2 * SCAN) -> bool:
        """SIGSTOP past the lease, then SIGCONT: it wakes up and goes on where it was."""
        worker = cast("Worker | None", self._victim(self.world.workers))
        if worker is None:
            return False
        self._busy.add(worker.name)
        self.injected["zombies"] += 1
        try:
            attempts = self.takeovers.running_on(worker, [client.request_id for client in self.running])
            self.takeovers.disturb()
            self.takeovers.measure(attempts)
            worker.freeze()
            await asyncio.sleep(seconds)
            worker.thaw()
            await asyncio.sleep(SCAN)  # it has its say before anything else happens to it
        finally:
            self._busy.discard(worker.name)
        return True

    async def kill_redis(self, pause: float = 0.3, *, cut: int = 0) -> bool:
        """``kill -9`` and a start from the AOF; ``cut``: bytes of its tail that the disk never got."""
        redis = self.world.redis
        self.takeovers.disturb()
        self.injected["redis kills, AOF tail cut" if cut else "redis kills"] += 1
        if not cut and await asyncio.to_thread(self._disk_is_late):
            self.injected["redis kills, disk late"] += 1
            self._forget(2)
            for asked in self.clients:
                asked.job_may_be_lost = asked.job_may_be_lost or not asked.ended_at
        await asyncio.to_thread(redis.kill)
        if cut:
            self._forget()
            redis.cut_aof(cut)
        await asyncio.sleep(pause)
        await asyncio.to_thread(redis.start)
        self.takeovers.disturb()
        return True

    def _disk_is_late(self) -> bool:
        """Redis keeps up to two seconds of its AOF to itself while an fsync is under way: a kill then loses them."""
        with self.world.redis.client() as client:
            about = client.info("persistence")
        return bool(about.get("aof_pending_bio_fsync")) or bool(about.get("aof_buffer_length"))

    async def fail_over(self, lag: float = 0.5) -> bool:
        """A replica that is ``lag`` seconds behind becomes the master; the old master is gone."""
        world = self.world
        async with Proxy(world.redis.port) as line:
            directory = world.redis.directory.parent / f"redis-{self.injected['failovers'] + 2}"
            replica = RedisServer(directory, aof="everysec", replica_of=cast(RedisServer, line))
            await asyncio.to_thread(replica.start)
            line.inject(proxy.timeout())
            await asyncio.sleep(lag)
            self.takeovers.disturb()
            await asyncio.to_thread(world.redis.kill)
            self._forget(lag)
            await asyncio.to_thread(replica.promote)
            await line.refuse()
        world.replica = replica  # for whoever tears down
        await world.point_to(replica)
        self.injected["failovers"] += 1
        self.takeovers.disturb()
        return True

    def _forget(self, seconds: float = 1) -> None:
        since = time.time() - seconds - 1
        for client in self.clients:
            client.forgotten = client.forgotten or not client.ended_at or client.ended_at > since

    async def refuse_writes(self, kind: str = "", seconds: float = 2 * LEASE) -> bool:
        """Redis answers and takes no writes for a while; see `chaos.refusals`."""
        if "redis" in self._busy:
            return False
        self._busy.add("redis")
        kind = kind or next(self._refusals)
        refusal = refusing(self.world.redis, kind)
        self.takeovers.disturb()
        try:
            await asyncio.to_thread(refusal.__enter__)
            try:
                await asyncio.sleep(seconds)  # what is waited for is that time passes
            finally:
                await asyncio.to_thread(refusal.__exit__, None, None, None)
        finally:
            self._busy.discard("redis")
        self.injected[f"redis refuses writes: {kind}"] += 1
        self.takeovers.disturb()
        return True

    async def lose_job_stream(self, how: str = "") -> bool:
        """The job stream alone is lost. Whoever waits in it, or whose worker dies now, is told, and asks again."""
        how = how or next(self._losses)
        try:
            with self.world.redis.client() as client:
                for asked in self.clients:
                    asked.job_may_be_lost = asked.job_may_be_lost or (not asked.ended_at and how != "XGROUP DESTROY")
                _lose(client, how)
        except redis.RedisError:
            return False
        self.takeovers.disturb()
        self.injected[f"job stream lost: {how}"] += 1
        return True

    async def later_job(self) -> bool:
        """A job of a release that no worker here understands: it ends at once, with an error that says so."""
        job = Job(id=new_request_id(), model=MODEL, created=time.time(), configs=("main",), messages=[])
        fields = requests.encode(job, pool="", policy="continue")
        later = msgspec.json.encode(msgspec.to_builtins(job) | {"version": jobs.VERSION + 9})
        try:
            with self.world.redis.client() as client:
                client.hset(keys.request(job.id), mapping={"status": "queued", **fields})
                client.expire(keys.request(job.id), requests.TTL)
                entry = client.xadd(keys.jobs(), {requests.DATA: later})
                client.hset(keys.request(job.id), requests.MARK, entry)
        except redis.RedisError:
            return False
        self.injected["jobs of a later release"] += 1
        reader = Client(self.world, Question("", 0, 1), request_id=job.id, patience=120)
        await reader.run()
        code = (reader.error or {}).get("code")
        if code not in ("job_not_understood", "job_lost") or reader.text:
            self.wrong.append(f"a job of a later release ended with {code}: {reader.lost or reader.text[:80]}")
        return True

    async def flush_redis(self) -> bool:
        """FLUSHALL: everything is gone, and nobody is disconnected."""
        self.takeovers.disturb()
        self.injected["emptied redis"] += 1
        await asyncio.to_thread(self.world.redis.flush)
        self._forget()
        return True

    async def break_network(self, seconds: float | None = None, name: str = "") -> bool:
        """One fault between one process and Redis, for a while."""
        process = self._random.choice([p for p in self.world.processes if p.name not in self._busy] or [None])
        if process is None:
            return False
        line = self.world.network(process)
        name = name or self._random.choice([*NETWORK, "reset", "refuse"])
        seconds = self._random.uniform(0.3, 1.5 * LEASE) if seconds is None else seconds
        self.injected[f"network: {name}"] += 1
        self.takeovers.disturb()
        await break_line(line, name, seconds)
        self.takeovers.disturb()
        return True

    async def cancel(self) -> bool:
        running = [client for client in self.running if not client.cancelled]
        gateway = self.world.live_gateway()
        if not running or gateway is None:
            return False
        client = self._random.choice(running)
        try:
            status, _ = await fetch(f"{gateway.api}/chat/completions/{client.request_id}/cancel", body={})
        except (OSError, EOFError, ValueError):
            return False
        if status != 200:
            return False
        client.cancelled = True
        self.injected["cancels"] += 1
        return True


def _lose(client: redis.Redis, how: str) -> None:
    match how:
        case "DEL":
            client.delete(keys.jobs())
        case "XTRIM":
            client.xtrim(keys.jobs(), maxlen=0, approximate=False)
        case _:
            client.xgroup_destroy(keys.jobs(), keys.GROUP)


async def break_line(line: Proxy, name: str, seconds: float) -> None:
    if name == "reset":
        return line.reset()
    if name == "refuse":
        await line.refuse()
    else:
        line.inject(NETWORK[name])
    await asyncio.sleep(seconds)
    await line.heal()


async def streaming(clients: Sequence[Client], chunks: int = 3, timeout: float = 20) -> None:
    """Wait until every client has seen so many frames: all are in mid-stream."""
    await until(lambda: all(client.received >= chunks for client in clients), timeout=timeout, what="all stream")
