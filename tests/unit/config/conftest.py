"""Configs as text, and files on disk, for the tests of the rails config."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
from railstream.config import RailsConfig
from railstream.errors import ConfigurationError

Write = Callable[[str, str], Path]
Refusal = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write one file below the test's directory; returns that directory."""

    def write_one(name: str, text: str) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text), "utf-8")
        return tmp_path

    return write_one


@pytest.fixture
def refusal() -> Refusal:
    """Why a config is refused."""

    def of(text: str) -> str:
        with pytest.raises(ConfigurationError) as caught:
            RailsConfig.from_content(yaml_content=dedent(text))
        return str(caught.value)

    return of
