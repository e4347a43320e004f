"""The port to conversations. What is somebody else's is not there: every call names the tenant.

A branch has one writer at a time: the request whose turn was begun last, until that request has ended. The store
knows who it is; whether that request still runs is for the caller to find out. A flow is the writer of all its
branches at once, and each of its operations has a turn of its own there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from railstream.conversations.entries import BranchInfo, Entry, SessionInfo


class Sessions(Protocol):
    """Raises ``SessionNotFoundError`` and ``BranchNotFoundError`` wherever one is named that is not there."""

    async def create(
        self, tenant: str, *, name: str = "", metadata: Mapping[str, str] | None = None
    ) -> SessionInfo: ...

    async def read(self, session: str, tenant: str) -> SessionInfo: ...

    async def listed(self, tenant: str, limit: int) -> list[SessionInfo]:
        """The latest used first."""
        ...

    async def change(
        self, session: str, tenant: str, *, name: str | None = None, metadata: Mapping[str, str] | None = None
    ) -> SessionInfo: ...

    async def delete(self, session: str, tenant: str) -> None: ...

    async def create_branch(
        self, session: str, tenant: str, name: str, *, origin: str = "", at: str = ""
    ) -> BranchInfo:
        """Empty, or with the messages of ``origin`` up to and with ``at``. Raises ``BranchExistsError``."""
        ...

    async def rename_branch(self, session: str, tenant: str, name: str, to: str, *, over: str = "") -> str:
        """Returns nothing, or the request that writes on it, unless that is ``over``."""
        ...

    async def delete_branch(self, session: str, tenant: str, name: str) -> None: ...

    async def messages(self, session: str, tenant: str, branch: str) -> list[Entry]: ...

    async def begin_turn(
        self,
        session: str,
        tenant: str,
        branch: str,
        request: str,
        messages: Sequence[Mapping[str, Any]],
        *,
        over: str = "",
        create: bool = False,
    ) -> str:
        """Append a request's messages and make it the writer. Again for the same request it does nothing.
        A flow brings none: its operations append their own when they begin.

        Returns nothing, or the request that is the writer, unless that is ``over``: one that has ended.
        ``create``: make the session, with this branch, if it is not there.
        """
        ...

    async def abandon_turn(self, session: str, branch: str, request: str) -> None:
        """Take a turn back that nobody will answer, as if it had not begun."""
        ...

    async def rewrite_turn(
        self, session: str, branch: str, request: str, messages: Mapping[int, Mapping[str, Any]]
    ) -> bool:
        """Put messages in the place of those that the writer's turn began with, by their positions in it.

        False when the request is not the writer.
        """
        ...

    async def begin_operation(self, session: str, branch: str, attempt: int, question: Entry) -> bool:
        """Append what an operation of the writer asks, or put it in the place of what an earlier attempt asked.

        False when ``question`` is not the writer's, or a later attempt has been here.
        """
        ...

    async def resume_operations(
        self, session: str, branch: str, request: str, attempt: int, begun: Collection[str]
    ) -> None:
        """Let no attempt before this one write here any more, and take back the turns of operations but ``begun``."""
        ...

    async def history(self, session: str, branch: str, request: str, operation: str = "") -> list[Entry]:
        """What was said on the branch before this turn."""
        ...

    async def end_turn(self, session: str, branch: str, request: str, attempt: int, answer: Entry) -> bool:
        """Append the answer, or put it in the place of an earlier attempt's. False when it is not the writer's."""
        ...
