"""The public door: which names it has, and that it costs nothing until one is used."""

from __future__ import annotations

import subprocess
import sys

import pytest
import railstream

NAMES = [
    "AssistantResponseContent",
    "AsyncTextIteratorStreamer",
    "Branch",
    "Builder",
    "CallError",
    "ChatModel",
    "ConfigurationError",
    "ExplainInfo",
    "GenerationOptions",
    "GenerationResponse",
    "HuggingFacePipelineCompatible",
    "InstructionContent",
    "LLMRails",
    "Message",
    "RailStatus",
    "RailType",
    "RailsConfig",
    "RailsResult",
    "RailstreamError",
    "ScriptedModel",
    "Session",
    "StreamingHandler",
    "StreamingNotSupportedError",
    "Verdict",
    "action",
    "allow",
    "block",
    "communicate",
    "flow_stream",
    "iModel",
    "prepare_messages_for_chat",
    "rewrite",
]


def python(code: str) -> str:
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_the_exported_names_are_these() -> None:
    assert sorted(railstream.__all__) == NAMES
    assert set(NAMES) <= set(dir(railstream))


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_there(name: str) -> None:
    assert getattr(railstream, name) is getattr(railstream, name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Rails'"):
        _ = railstream.Rails


def test_importing_it_loads_nothing() -> None:
    loaded = python(
        "import sys; before = set(sys.modules); import railstream; "
        "print(sorted({m.partition('.')[0] for m in set(sys.modules) - before} - sys.stdlib_module_names))"
    )
    assert loaded == "['railstream']"


def test_the_config_needs_no_worker() -> None:
    assert (
        python("import sys; from railstream import RailsConfig; print('railstream_worker' in sys.modules)") == "False"
    )


def test_the_python_api_needs_neither_redis_nor_a_web_framework() -> None:
    code = (
        "import sys, railstream\n"
        "config = railstream.RailsConfig.from_content(config={})\n"
        "llm = railstream.ScriptedModel('m', answers=['Hi'], words_per_second=0)\n"
        "print(railstream.LLMRails(config, llm=llm).generate(prompt='x'))\n"
        "print([name for name in ('redis', 'faststream', 'fastapi', 'uvicorn') if name in sys.modules])"
    )
    assert python(code) == "Hi\n[]"


def test_a_missing_extra_is_named() -> None:
    code = (
        "import sys\n"
        "sys.modules['regex'] = None\n"
        "try:\n"
        "    from railstream import LLMRails\n"
        "except ImportError as error:\n"
        "    print(error)"
    )
    assert python(code) == (
        "railstream.LLMRails needs 'regex', which is not installed: pip install 'railstream[worker]'"
    )


def test_the_handler_is_also_where_nemo_has_it() -> None:
    from railstream.streaming import StreamingHandler

    assert StreamingHandler is railstream.StreamingHandler
