"""Build a graph of operations on the branches of a session."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from railstream.errors import InvalidRequestError

from railstream_engine.sessions.imodel import iModel
from railstream_engine.sessions.session import Session


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One question to one model. ``parameters``: ``instruction``, ``imodel``, ``branch``."""

    id: str
    session: Session = field(repr=False)
    parameters: Mapping[str, Any] = field(repr=False)
    depends_on: tuple[str, ...] = ()
    context_from: tuple[str, ...] = ()
    """Operations whose answers stand before the instruction, in the message that the model gets."""

    @property
    def branch(self) -> str:
        return str(self.parameters["branch"])

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.depends_on, *self.context_from)))


class Builder:
    """A branch that is named here and does not exist yet is made."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.operations: list[Operation] = []

    def communicate(
        self,
        instruction: str,
        imodel: iModel | str,
        branch: str | None = None,
        *,
        depends_on: Iterable[Operation | str] = (),
        context_from: Iterable[Operation | str] = (),
        id: str | None = None,
    ) -> Operation:
        """Add a question. Without ``branch`` it gets one of its own, named as itself.

        Raises:
            InvalidRequestError: there is an operation of that id already.
            ConfigurationError: the session has no model of that name.
        """
        id = id or uuid.uuid4().hex
        if any(operation.id == id for operation in self.operations):
            raise InvalidRequestError(f"there is an operation {id!r} already", param="id")
        model = self.session.services.get(imodel) if isinstance(imodel, str) else imodel
        name = branch or id
        if name not in self.session.branches:
            self.session.create_branch(name)
        operation = Operation(
            id,
            self.session,
            {"instruction": instruction, "imodel": model, "branch": name},
            tuple(map(_id, depends_on)),
            tuple(map(_id, context_from)),
        )
        self.operations.append(operation)
        return operation


def _id(operation: Operation | str) -> str:
    return operation if isinstance(operation, str) else operation.id
