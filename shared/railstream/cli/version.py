"""`railstream version`: the versions that a bug report needs."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of

from rich.console import Console

BESIDE = ("redis", "faststream", "fastapi", "uvicorn", "openai", "pydantic", "opentelemetry-sdk")


def version() -> None:
    """Print the versions of Railstream, Python and the packages that decide how it behaves."""
    console = Console(highlight=False)
    console.print(f"railstream {version_of('railstream')}", style="bold")
    console.print(f"python {platform.python_version()} on {platform.system()} {platform.machine()}")
    for package in BESIDE:
        console.print(f"{package} {_installed(package)}")


def _installed(package: str) -> str:
    try:
        return version_of(package)
    except PackageNotFoundError:
        return "(not installed)"
