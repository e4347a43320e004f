"""docs/architecture.md names every module of the gateway, the worker and the engine, and no other."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGES = ("gateway/railstream_gateway", "worker/railstream_worker", "worker/railstream_engine")


def expanded(name: str) -> list[str]:
    """``a/{b,c}.py`` as ``a/b.py`` and ``a/c.py``."""
    found = re.search(r"\{([^}]*)\}", name)
    if not found:
        return [name]
    parts = (part.strip() for part in found[1].split(","))
    return [one for part in parts for one in expanded(name[: found.start()] + part + name[found.end() :])]


NAMES = [one for name in re.findall(r"`([\w./{},]+(?:\.py|/))`", PAGE) for one in expanded(name)]

WHOLE = ("worker/", "gateway/", "accept/", "railstream_gateway/routes/", "railstream_engine/providers/")
"""Folders that the page names where it says what stands in them; each of their modules has its own place on it."""


def modules() -> list[Path]:
    return [path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if path.name != "__init__.py"]


def test_every_module_is_named_or_stands_in_a_folder_that_is() -> None:
    folders = [name for name in NAMES if name.endswith("/") and name not in WHOLE]
    files = [name for name in NAMES if name.endswith(".py")]
    missing = [
        str(path.relative_to(ROOT))
        for path in modules()
        if not any(str(path).endswith(f"/{name}") for name in files)
        and not any(f"/{folder}" in str(path) for folder in folders)
    ]
    assert not missing


def test_every_name_on_the_page_is_a_file_or_folder() -> None:
    tops = [ROOT / top for top in ("shared", "worker", "gateway", "tests")]
    paths = [f"{path}/" if path.is_dir() else str(path) for top in tops for path in (top, *top.rglob("*"))]
    assert not [name for name in NAMES if not any(path.endswith(f"/{name}") for path in paths)]
