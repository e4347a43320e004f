"""A service of a process ends with the process, and not before."""

from __future__ import annotations

import asyncio

import pytest
from harness.waiting import until
from railstream import services


@pytest.mark.parametrize("error", [RuntimeError("a closed handle"), asyncio.CancelledError(), None])
async def test_a_service_that_ends_by_itself_is_begun_again(
    error: BaseException | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "PAUSE", 0.01)
    begun = 0

    async def service() -> None:
        nonlocal begun
        begun += 1
        if begun == 3:
            await asyncio.Event().wait()
        if error is not None:
            raise error

    task = services.start("the service", service)
    await until(lambda: begun == 3, what="it is begun a third time")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
