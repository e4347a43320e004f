"""The fenced stream under any interleaving: two writers, takeovers, retries, readers, trims, expiry, lost tails.

The writers are the product's publisher and scripts on a real Redis, each on an event loop that runs only when a rule
says so; the judge shares no code with them but the event ids.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis as blocking
from chaos.fenced_writer import Writer
from harness.redis_server import RedisServer
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from railstream import keys
from railstream.ids import START, EventId, new_request_id, parse_event_id
from railstream.job import Job
from railstream_worker.stream.appends import Packed

TERMINAL = {b"finished", b"blocked", b"failed", b"cancelled"}
WRITERS = st.integers(0, 1)
READERS = st.integers(0, 1)

Entry = tuple[bytes, bytes]
Log = dict[EventId, Entry]


def restarted_after(data: bytes) -> EventId:
    return parse_event_id(data.partition(b'"after":"')[2].partition(b'"')[0])


@dataclass
class Reader:
    """What a client holds, and whether it was told that something is missing."""

    cursor: EventId = START
    seen: Log = field(default_factory=dict)
    gap: bool = False

    def follows(self, id: EventId, entry: Entry) -> bool:
        if self.cursor == START:
            return id.seq == 0 and entry[0] == b"started"
        if id.attempt == self.cursor.attempt:
            return id.seq == self.cursor.seq + 1
        return entry[0] == b"restarted" and restarted_after(entry[1]) == self.cursor

    def take(self, id: EventId, entry: Entry) -> None:
        if not self.follows(id, entry):
            self.gap = True
            return
        self.cursor, self.seen[id] = id, entry


class FencedStreamMachine(RuleBasedStateMachine):
    server: RedisServer
    writers: list[Writer]

    def __init__(self) -> None:
        super().__init__()
        self.server.flush()
        self.writers[0].note_history()
        self.redis = self.server.client()
        self.job = Job(id=new_request_id(), model="m", created=1.0, configs=("c",), messages=[])
        self.entry = b"%d-0" % (time.time() * 1000)
        self.keys = (keys.events(self.job.id), keys.request(self.job.id))
        self.readers = [Reader(), Reader()]
        self.before: Log = {}
        self.lossy = self.emptied = False
        self.generations: dict[int, str] = {}
        self.snapshot: list[Any] = [None, None]
        for writer in self.writers:
            writer.leave()

    def log(self) -> Log:
        found: Any = self.redis.xrange(self.keys[0])
        return {parse_event_id(entry): (fields[b"event"], fields[b"data"]) for entry, fields in found}

    # What writers do.

    @rule(which=WRITERS)
    def reserve(self, which: int) -> None:
        if self.emptied:
            return  # the queue is empty as well
        writer, held = self.writers[which], self.log()
        writer.leave()
        ended = self.redis.hget(self.keys[1], "status") in TERMINAL
        attempt = writer.begin(self.job, self.entry)
        assert bool(attempt) is not ended, "an ended stream is not begun again, any other one is"
        if attempt:
            assert not held or attempt > max(held).attempt
            assert attempt not in self.generations, "a number that an earlier attempt had, even one that Redis forgot"
            self.generations[attempt] = writer.generation

    @rule(which=WRITERS, count=st.integers(1, 6))
    def append(self, which: int, count: int) -> None:
        if self.writers[which].stream is not None and not self.writers[which].ended:
            self.writers[which].append(count)

    @rule(which=WRITERS)
    def record_usage(self, which: int) -> None:
        if self.writers[which].stream is not None and not self.writers[which].ended:
            self.writers[which].record()

    @rule(which=WRITERS)
    def settle(self, which: int) -> None:
        self.writers[which].settle()

    @rule(which=WRITERS)
    def send_and_hear_nothing(self, which: int) -> None:
        self.writers[which].send_only()

    @rule(which=WRITERS)
    def end(self, which: int) -> None:
        writer = self.writers[which]
        if writer.stream is None or writer.ended:
            return
        attempt = writer.stream.attempt
        if writer.end():
            last = max(self.log())
            assert last.attempt == attempt, "an end that was accepted stands last"
            writer.leave()

    @rule(which=WRITERS, back=st.integers(1, 8))
    def repeat_an_append(self, which: int, back: int) -> None:
        """Bytes of an older connection that arrive, once more or at last."""
        stream = self.writers[which].stream
        if stream is None or len(stream.history) <= back:
            return
        seq, append = stream.history.after(-1)[-back]
        if isinstance(append, Packed) and append.script:
            return
        connection = self.redis.connection_pool.get_connection()
        connection.send_packed_command([stream.pack(seq, append)])
        for _ in range(2):
            with contextlib.suppress(blocking.ResponseError):
                connection.read_response()
        self.redis.connection_pool.release(connection)

    # What happens to Redis and the network.

    @rule(which=WRITERS)
    def cut_connection(self, which: int) -> None:
        for client in self.redis.client_list():
            if client["name"] == f"{self.writers[which].name}-tokens":
                self.redis.client_kill_filter(_id=client["id"])

    @rule(keep=st.integers(0, 12))
    def trim(self, keep: int) -> None:
        self.lossy = True
        self.redis.xtrim(self.keys[0], maxlen=keep, approximate=False)

    @rule()
    def expire(self) -> None:
        """Retention is over, or somebody emptied Redis."""
        self.emptied = True
        self._lose(None, None)

    @rule()
    def replicate(self) -> None:
        """The lagging replica has come this far."""
        self.snapshot = [self.redis.dump(key) for key in self.keys]

    @rule()
    def fail_over(self) -> None:
        self._lose(*self.snapshot)
        self.emptied = False
        time.sleep(0.05)  # a failover takes longer than so many takeovers
        self.redis.execute_command("DEBUG", "CHANGE-REPL-ID")
        self.redis.client_kill_filter(_type="normal", skipme=True)

    def _lose(self, *values: Any) -> None:
        self.lossy = True
        with self.redis.pipeline(transaction=True) as pipeline:
            for key, value in zip(self.keys, values, strict=True):
                pipeline.delete(key)
                if value is not None:
                    pipeline.restore(key, 600_000, value)
            pipeline.execute()

    # What readers do.

    @rule(which=READERS, count=st.integers(1, 10))
    def read(self, which: int, count: int) -> None:
        reader = self.readers[which]
        page: Any = self.redis.xrange(self.keys[0], min=f"({reader.cursor}", count=count)
        for raw, fields in page:
            reader.take(parse_event_id(raw), (fields[b"event"], fields[b"data"]))
            if reader.gap:
                assert self.lossy, "a gap where nothing was lost"
                self.readers[which] = Reader()
                return
        if page:
            now = self.log()
            for id, entry in reader.seen.items():
                assert now.get(id, entry) == entry, f"{id} is another event than the reader was given"
            assert self.lossy or list(reader.seen) == [id for id in now if id <= reader.cursor]

    @rule(count=st.integers(1, 5), where=st.integers(0, 50))
    def page_from_anywhere(self, count: int, where: int) -> None:
        log = list(self.log())
        if not log:
            return
        cursor = log[where % len(log)]
        wanted = log[log.index(cursor) + 1 :]
        got: list[EventId] = []
        while page := self.redis.xrange(self.keys[0], min=f"({cursor}", count=count):
            got += [parse_event_id(raw) for raw, _ in page]
            cursor = got[-1]
        assert got == wanted

    # What holds at every moment.

    @invariant()
    def the_log_only_grows(self) -> None:
        now = self.log()
        if not self.lossy:
            assert list(now)[: len(self.before)] == list(self.before)
            assert all(now[id] == entry for id, entry in self.before.items())
        self.before = now

    @invariant()
    def each_attempt_has_one_writer_and_no_holes(self) -> None:
        previous: EventId | None = None
        for id, (name, data) in self.before.items():
            if name == b"chunk":
                assert data == b'{"content":"%b:%d "}' % (self.generations[id.attempt].encode(), id.seq)
            if previous is not None and id.attempt == previous.attempt:
                assert id.seq == previous.seq + 1, f"{id} after {previous}"
            elif previous is not None:
                assert (id.seq, name) == (0, b"restarted"), f"{id} opens an attempt"
                assert restarted_after(data) == previous
            previous = id

    @invariant()
    def one_end_and_it_is_last(self) -> None:
        ends = [id for id, (name, _) in self.before.items() if name in TERMINAL]
        assert len(ends) <= 1
        assert not ends or ends[0] == max(self.before)

    def teardown(self) -> None:
        """Whatever happened, one more attempt brings the stream to its one end."""
        try:
            for writer in self.writers:
                writer.settle()
            writer = self.writers[0]
            writer.leave()
            if self.emptied:
                return
            if attempt := writer.begin(self.job, self.entry):
                self.generations[attempt] = writer.generation
                writer.append(3)
                assert writer.end()
            assert self.writers[1].begin(self.job, self.entry) == 0
            self.the_log_only_grows()
            self.each_attempt_has_one_writer_and_no_holes()
            self.one_end_and_it_is_last()
            assert not self.before or self.before[max(self.before)][0] in TERMINAL
        finally:
            self.redis.delete(*self.keys)
            self.redis.close()


@pytest.mark.hypothesis
def test_the_fenced_stream_keeps_its_word_under_any_interleaving(
    start_redis: Callable[..., RedisServer], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)  # outages by the hundred are no news here
    server = start_redis(options={"enable-debug-command": "yes"})
    writers = [Writer(server.url, name) for name in ("ann", "bob")]
    machine = type("Machine", (FencedStreamMachine,), {"server": server, "writers": writers})
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=settings().max_examples // 2,
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        for writer in writers:
            writer.close()
