"""Runs the command line of a checkout and records each call of its own functions: when, which, how deep.

``python recorder.py OUTPUT ARGUMENTS…``, with the checkout's packages on PYTHONPATH. A coroutine that is resumed counts
as a call. The record is written when the process ends.
"""

from __future__ import annotations

import atexit
import json
import sys
import threading
import time
from types import CodeType, FrameType
from typing import Any

PACKAGES = ("railstream", "railstream_engine", "railstream_worker", "railstream_gateway")
NOT_SERVED = ("railstream.testing", "railstream.cli", "railstream.local")

_calls: list[tuple[int, int, int]] = []
_numbers: dict[CodeType, int] = {}
_functions: list[tuple[str, str]] = []


def _number(frame: FrameType) -> int:
    """The function's number; -1 for one of another package."""
    code = frame.f_code
    number = _numbers.get(code)
    if number is None:
        module = frame.f_globals.get("__name__", "")
        ours = module.split(".")[0] in PACKAGES and not module.startswith(NOT_SERVED)
        if ours:
            _functions.append((code.co_filename, f"{module}:{code.co_qualname}"))
        number = _numbers[code] = len(_functions) - 1 if ours else -1
    return number


def _record(frame: FrameType, event: str, _: Any) -> None:
    if event != "call" or (number := _number(frame)) < 0:
        return
    depth, above = 1, frame.f_back
    while above is not None:
        depth += _number(above) >= 0
        above = above.f_back
    _calls.append((time.monotonic_ns(), number, depth))


def _write(path: str) -> None:
    sys.setprofile(None)
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"functions": _functions, "calls": _calls}, file)


def main() -> None:
    output, *arguments = sys.argv[1:]
    sys.argv = ["railstream", *arguments]
    from railstream.cli import main as run

    atexit.register(_write, output)
    threading.setprofile(_record)
    sys.setprofile(_record)
    run()


if __name__ == "__main__":
    main()
