"""What an index and a newcomer see of the package: its metadata, its page, and that its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for pattern in (
        "*.md",
        "docs/*.md",
        "deploy/*.md",
        "deploy/otel/*.md",
        "worker/*.md",
        "gateway/*.md",
        "examples/*.md",
    )
    for path in ROOT.glob(pattern)
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@pytest.fixture
def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return found


def test_the_metadata_says_what_an_index_shows(project: dict[str, Any]) -> None:
    assert {"authors", "keywords", "classifiers", "license", "requires-python", "description"} <= project.keys()
    for version in ("3.11", "3.12", "3.13"):
        assert f"Programming Language :: Python :: {version}" in project["classifiers"]
    assert not any(one.startswith("License ::") for one in project["classifiers"]), (
        "PEP 639: the license is an expression"
    )


def test_the_page_of_the_index_has_no_link_that_needs_the_repository(project: dict[str, Any]) -> None:
    page = (ROOT / project["readme"]).read_text(encoding="utf-8")
    assert "pip install" in page
    assert [link for link in LINK.findall(page) if not link.startswith("https://")] == []
    assert "![" not in page


def test_the_changelog_names_the_release_that_is_prepared(project: dict[str, Any]) -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert project["version"] in changelog


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_link_of_a_document_leads_somewhere(document: Path) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / document).parent / path if path else ROOT / document
        assert target.exists(), f"{document}: {link}"
        if anchor and target.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
            assert anchor in anchors, f"{document}: {link}"


def test_the_wheel_carries_the_metadata_the_page_and_the_pages_of_the_gateway(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (path,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        metadata = archive.read(path).decode()
    assert "Description-Content-Type: text/markdown" in metadata
    assert "Classifier: Typing :: Typed" in metadata
    assert "pip install 'railstream[all]'" in metadata
    assert {"railstream_gateway/pages/reference.html", "railstream/py.typed"} <= set(names)
