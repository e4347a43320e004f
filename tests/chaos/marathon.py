"""The long run: so many streams at once, so many faults of each kind in random order, and then the judge.

Everything random comes from one seed, which is printed: the same seed asks the same questions and breaks the same
things in the same order. What the machine makes of it in time is its own affair.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from chaos.clients import Client, Question
from chaos.conservation import Verdict, check
from chaos.faults import Faults
from chaos.world import CONTINUING, KEEPING, World, running_world
from harness.waiting import until

EXCLUSIVE = ("redis_kills", "failovers")
"""What nothing else may be judged by: they take their turn alone."""

FAULTS = (
    *("worker_kills", "gateway_kills", "zombies", "redis_kills", "failovers", "cancels", "network_faults"),
    *("write_refusals", "job_stream_losses", "later_jobs"),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of what. ``minutes``: over which the faults are spread; 0: as fast as they can be mended."""

    seed: int
    streams: int = 50
    gateways: int = 3
    workers: int = 4
    minutes: float = 12.0
    worker_kills: int = 200
    gateway_kills: int = 50
    zombies: int = 20
    redis_kills: int = 10
    failovers: int = 3
    cancels: int = 50
    network_faults: int = 40
    write_refusals: int = 12
    job_stream_losses: int = 6
    later_jobs: int = 10
    client_cuts: float = 1.0
    """Per stream, on average."""

    def faults(self) -> list[str]:
        return [name for name in FAULTS for _ in range(getattr(self, name))]


@dataclass
class Marathon:
    world: World
    plan: Plan
    say: Callable[[str], None]
    verdict: Verdict = field(default_factory=Verdict)

    def __post_init__(self) -> None:
        self.faults = Faults(self.world)
        self._over = False
        self._hung: list[str] = []
        self._judged: set[int] = set()
        self._tasks: set[asyncio.Task[bool]] = set()
        acts = self.faults
        self._act: dict[str, Callable[[], Awaitable[bool]]] = {
            "worker_kills": lambda: acts.kill_worker(self.world.random.uniform(0, 1)),
            "gateway_kills": lambda: acts.kill_gateway(self.world.random.uniform(0, 0.5)),
            "zombies": acts.zombie,
            "redis_kills": lambda: acts.kill_redis(self.world.random.uniform(0.1, 1.5)),
            "failovers": lambda: acts.fail_over(self.world.random.uniform(0.2, 1.5)),
            "cancels": acts.cancel,
            "network_faults": acts.break_network,
            "write_refusals": acts.refuse_writes,
            "job_stream_losses": acts.lose_job_stream,
            "later_jobs": acts.later_job,
        }

    async def run(self) -> Verdict:
        async with asyncio.TaskGroup() as group:
            slots = [group.create_task(self._keep_asking()) for _ in range(self.plan.streams)]
            try:
                await self._break_everything()
            finally:
                self._over = True
            await asyncio.gather(*slots)
        await self.world.heal()
        await self.world.quiet(120)
        await self.faults.takeovers.settled()
        await self._judge()
        return self.verdict

    async def _keep_asking(self) -> None:
        draw = self.world.random
        while not self._over:
            words = draw.randint(20, 150)
            config = draw.choice(("main", CONTINUING, KEEPING))
            question = Question(f"{draw.getrandbits(48):x}", words, draw.uniform(12, 40), config)
            cuts = [draw.randint(0, 200 * words) for _ in range(draw.choice((0, 1, 2)) if self.plan.client_cuts else 0)]
            client = Client(self.world, question, cuts=cuts, patience=120)
            self.faults.clients.append(client)
            try:
                await client.run()
            except TimeoutError:
                self._hung.append(client.request_id)
                self.say(f"HUNG: {client.request_id or 'not accepted'} after {client.received} frames")

    async def _break_everything(self) -> None:
        todo = self.plan.faults()
        self.world.random.shuffle(todo)
        pause = self.plan.minutes * 60 / max(1, len(todo))
        began, said = time.monotonic(), 0.0
        for number, name in enumerate(todo, start=1):
            await self._one(name)
            due = began + number * pause - time.monotonic()
            await asyncio.sleep(max(0.05, due))
            if time.monotonic() - said > 15:
                said = time.monotonic()
                self.say(self._progress(number, len(todo), said - began))
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _one(self, name: str) -> None:
        if name in EXCLUSIVE:
            while self._tasks:
                await asyncio.wait(self._tasks)
            if name == "failovers":
                await self._judge()
            await self._act[name]()
            return
        task = asyncio.create_task(self._until_done(self._act[name]))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[bool]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.say(f"a fault could not be injected: {error!r}")

    @staticmethod
    async def _until_done(act: Callable[[], Awaitable[bool]]) -> bool:
        """Again until there is a victim for it."""
        await until(act, timeout=300, interval=0.3, what="a victim")
        return True

    async def _judge(self) -> None:
        """Those that have ended, before Redis may forget them."""
        ended = [c for c in self.faults.clients if c.ended_at and id(c) not in self._judged]
        if self._over:
            ended = [c for c in self.faults.clients if id(c) not in self._judged]
        self._judged |= {id(client) for client in ended}
        found = await check(self.world, ended)
        self.verdict.counts += found.counts
        self.verdict.wrong += found.wrong + self.faults.wrong
        self.faults.wrong, wrongs = [], found.wrong + self.faults.wrong
        for wrong in wrongs:
            self.say(wrong)

    def _progress(self, number: int, total: int, seconds: float) -> str:
        clients = self.faults.clients
        done = sum(client.done for client in clients)
        injected = ", ".join(f"{name} {count}" for name, count in self.faults.injected.items() if "network" not in name)
        return f"{seconds:5.0f} s  {number}/{total} faults  {done} of {len(clients)} streams ended  {injected}"


async def run(plan: Plan, directory: Path, say: Callable[[str], None]) -> Marathon:
    async with running_world(directory, seed=plan.seed, gateways=plan.gateways, workers=plan.workers) as world:
        marathon = Marathon(world, plan, say)
        await marathon.run()
        return marathon


def totals(injected: Counter[str]) -> Counter[str]:
    """Network faults as one sum beside their kinds."""
    return injected + Counter({"network faults": sum(n for name, n in injected.items() if name.startswith("network:"))})
