"""The examples run as they stand: each as a process of its own, against a real stack where it needs one."""

from __future__ import annotations

import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from harness.commands import railstream
from harness.processes import Process
from harness.stack import Stack
from railstream.testing import Script

StartStack = Callable[..., Awaitable[Stack]]
EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAMS = sorted(path.name for path in EXAMPLES.glob("*.py"))
ANSWER = "Shorter waves are scattered more than longer ones."
SAID = {
    "chat.py": [ANSWER, r"\d+ tokens in, \d+ out"],
    "resume.py": [r"Shorter waves.*\[cut after 1-\d+\].*longer ones\.\n"],
    "read_stream.py": [ANSWER, "\nfinished: "],
    "in_process.py": [r"> Where do I write to\?\nWrite to \S+ and ask for her\.", "> Shout, please!\n"],
}


async def run(name: str, directory: Path, **environment: str) -> str:
    program = Process(name, [sys.executable, str(EXAMPLES / name)], directory=directory, environment=environment)
    assert await program.start().wait(60) == 0, program.tail()
    return program.output()


def test_every_example_is_run_here_and_named_in_their_readme() -> None:
    assert list(SAID) == [*dict.fromkeys(SAID)]
    assert sorted(SAID) == PROGRAMS
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"examples/{name}" in readme for name in PROGRAMS)


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name != "in_process.py"])
async def test_an_example_talks_to_a_stack(name: str, start_stack: StartStack, tmp_path: Path) -> None:
    stack = await start_stack(script=Script(text=ANSWER, rate=100))
    output = await run(name, tmp_path, EXAMPLE_URL=stack.url, EXAMPLE_REDIS=stack.redis_url)
    for expected in SAID[name]:
        assert re.search(expected, output, re.DOTALL), output


async def test_the_example_of_the_python_api_needs_no_stack(tmp_path: Path) -> None:
    output = await run("in_process.py", tmp_path, OPENAI_API_KEY="")
    for expected in SAID["in_process.py"]:
        assert re.search(expected, output), output
    assert "jane@example.com" not in output
    assert output.count("Write to") == 1, "the second question is refused"


async def test_the_example_config_is_checked_without_a_complaint() -> None:
    said = await railstream("check", str(EXAMPLES / "guarded"))
    assert said.code == 0
    assert "no shouting" in said.out
    assert said.err == ""
