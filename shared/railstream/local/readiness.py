"""Ask a gateway of the local stack whether it is ready."""

from __future__ import annotations

import asyncio

TIMEOUT = 3.0  # seconds for one answer
SHOWN = 300  # characters of an answer


def reachable(host: str) -> str:
    """The address under which this machine reaches a server that listens on ``host``."""
    return {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)


async def obstacle(host: str, port: int) -> str | None:
    """Why ``/readyz`` is not 200, in its own words; ``None`` when it is."""
    try:
        async with asyncio.timeout(TIMEOUT):
            answer = await _get(host, port, "/readyz")
    except (OSError, TimeoutError) as error:
        return f"no answer on port {port} ({type(error).__name__})"
    head, _, body = answer.partition("\r\n\r\n")
    status = head.partition("\r\n")[0]
    return None if " 200 " in f"{status} " else f"{status} {body}"[:SHOWN]


async def _get(host: str, port: int, path: str) -> str:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return (await reader.read()).decode(errors="replace")
    finally:
        writer.close()
