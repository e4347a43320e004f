"""The command line as a person runs it: one command, its exit code, and what it printed."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any, NamedTuple

from harness.processes import clean_environment


class Said(NamedTuple):
    code: int | None
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self
        return json.loads(self.out)


async def railstream(*arguments: str, redis_url: str = "", **environment: str) -> Said:
    if redis_url:
        environment["RAILSTREAM_REDIS_URL"] = redis_url
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "railstream.cli", *arguments),
        env=clean_environment(environment),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return Said(process.returncode, out.decode(), err.decode())
