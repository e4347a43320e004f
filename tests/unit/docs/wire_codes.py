"""Every wire code of an error that the product's source can raise, read from the source itself.

A code is found where it is passed (``code="…"``), where it is written into an error object (``"code": "…"``), and in
the class of an error that is raised without one.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from railstream import errors
from railstream.call_kinds import CALL_KINDS
from railstream.errors import CallError, InvalidRequestError, RailstreamError
from railstream_gateway.views.errors import CODES

ROOT = Path(__file__).parents[3]
PACKAGES = ("shared/railstream", "worker/railstream_engine", "worker/railstream_worker", "gateway/railstream_gateway")
NOT_SERVED = (
    *("shared/railstream/testing", "shared/railstream/cli", "shared/railstream/local"),
    "gateway/railstream_gateway/openapi_texts.py",
)
"""A provider for tests, commands whose errors no client of the gateway gets, and descriptions."""
ERRORS = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, RailstreamError)
}


class Raised(NamedTuple):
    """``status`` and ``retryable`` are ``None`` where the source does not fix them."""

    type: str
    code: str
    status: int | None = None
    retryable: bool | None = None


def raised() -> set[Raised]:
    """What the source raises or writes, with what is known of each."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in _sources()]
    found = {each for tree in trees for node in ast.walk(tree) for each in _of_node(node)}
    calls = {Raised(kind.type, kind.code, kind.status, kind.retryable) for kind in CALL_KINDS.values()}
    routing = {Raised(InvalidRequestError.type, code, status) for status, code in CODES.items()}
    return found | calls | routing


def unused_classes() -> set[str]:
    """Classes of errors, or their own codes, that nothing names but their definition."""
    found: set[str] = set()
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Store):
                found.add(node.id)
    return ERRORS.keys() - found


def _sources() -> Iterator[Path]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if not path.relative_to(ROOT).as_posix().startswith(NOT_SERVED):
                yield path


def _of_node(node: ast.AST) -> Iterator[Raised]:
    if isinstance(node, ast.Call):
        yield from _of_call(node)
    elif isinstance(node, ast.Dict):
        yield from _of_object(node)
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr == "code":
        if kind := ERRORS.get(node.value.id):
            yield Raised(kind.type, kind.code, kind.status, kind.retryable)
    elif isinstance(node, ast.ClassDef) and node.name not in ERRORS:
        yield from _of_subclass(node)
        yield from _of_fields(node)


def _of_call(node: ast.Call) -> Iterator[Raised]:
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    if name == "envelope":  # of the gateway's own: message, type, code
        words = [_text(argument) for argument in node.args[1:3]]
        if len(words) == 2 and all(words):
            yield Raised(*words)
        return
    kind = ERRORS.get(name)
    if kind is None or issubclass(kind, CallError):
        return
    code = _text(given["code"]) if "code" in given else kind.code
    status = given.get("status")
    if code:
        yield Raised(kind.type, code, status.value if isinstance(status, ast.Constant) else kind.status, kind.retryable)


def _of_object(node: ast.Dict) -> Iterator[Raised]:
    fields = {_text(key): _text(value) for key, value in zip(node.keys, node.values, strict=True) if key is not None}
    if fields.get("code") and fields.get("type"):
        yield Raised(fields["type"], fields["code"])


def _of_subclass(node: ast.ClassDef) -> Iterator[Raised]:
    """An error that is defined where it is raised, and keeps the code of its base."""
    for base in node.bases:
        kind = ERRORS.get(base.id) if isinstance(base, ast.Name) else None
        if kind is not None and not issubclass(kind, CallError):
            yield Raised(kind.type, kind.code, kind.status, kind.retryable)


def _of_fields(node: ast.ClassDef) -> Iterator[Raised]:
    """A dataclass with the defaults of an error object, such as a rail's violation."""
    defaults = {
        each.target.id: _text(each.value)
        for each in node.body
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name) and each.value is not None
    }
    if defaults.get("code") and defaults.get("type"):
        yield Raised(defaults["type"], defaults["code"])


def _text(node: ast.AST) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
