"""Wait for what other processes do: free ports, conditions that must be asked for, answers over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import random
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2

INTERVAL = 0.02
"""Seconds between two questions to a process that cannot tell by itself."""
PORTS = (15_000, 32_000)

_random = random.SystemRandom()
_given: set[int] = set()


def free_port() -> int:
    """A port that nothing listens on, for programs that cannot take port 0; never given twice by one process.

    It lies below those that the system gives to outgoing connections: a server that is killed finds it free again.
    """
    while True:
        port = _random.randrange(*PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            if port not in _given:
                probe.bind(("127.0.0.1", port))
                _given.add(port)
                return port


async def until(
    ask: Callable[[], Any | Awaitable[Any]], *, timeout: float = 10, what: str = "", interval: float = INTERVAL
) -> Any:
    """Ask until the answer is true, and return it; ``TimeoutError`` says ``what`` was awaited and the last answer."""
    answer: Any = None
    try:
        async with asyncio.timeout(timeout):
            while True:
                answer = ask()
                if inspect.isawaitable(answer):
                    answer = await answer
                if answer:
                    return answer
                await asyncio.sleep(interval)
    except TimeoutError:
        raise TimeoutError(f"not within {timeout} s: {what or ask}; last answer {answer!r}") from None


async def answers(url: str, status: int = 200) -> bool:
    """Whether a GET is answered with the status, now."""
    try:
        async with httpx2.AsyncClient(timeout=2, trust_env=False) as client:
            return (await client.get(url)).status_code == status
    except httpx2.HTTPError:
        return False
