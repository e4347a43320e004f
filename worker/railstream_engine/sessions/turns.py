"""One turn on a branch: the question is kept at once, the answer when it ends, and a cut one is marked as such."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Final

from railstream.errors import BranchBusyError, InvalidRequestError

from railstream_engine.sessions.chunks import Chunk, PartialAnswerError
from railstream_engine.sessions.imodel import iModel
from railstream_engine.sessions.messages import AssistantResponseContent, InstructionContent, Message
from railstream_engine.sessions.session import Branch, Session

PARAMETERS: Final = ("instruction", "imodel", "context")


async def communicate(
    session: Session,
    branch: Branch | str,
    parameters: Mapping[str, Any] | None = None,
    *,
    instruction: str = "",
    imodel: iModel | str = "",
    context: str = "",
) -> str:
    """Ask on a branch, with its history; the answer's text. ``parameters``: the same three by name.

    Raises:
        PartialAnswerError: the call failed; the question and the text so far stand on the branch.
        BranchBusyError: somebody else is being answered on the branch.
    """
    given: dict[str, Any] = {"instruction": instruction, "imodel": imodel, "context": context, **(parameters or {})}
    for name in given:
        if name not in PARAMETERS:
            raise InvalidRequestError(f"{name!r} is not a parameter of communicate; those are {PARAMETERS}", param=name)
    async with stream_turn(session, branch, **given) as chunks:
        return "".join([chunk.data async for chunk in chunks])


def stream_turn(
    session: Session, branch: Branch | str, instruction: str, imodel: iModel | str, context: str = ""
) -> aclosing[AsyncGenerator[Chunk, None]]:
    """The same, chunk by chunk: ``async with stream_turn(…) as chunks``. Who leaves early keeps what came by then."""
    if not instruction:
        raise InvalidRequestError("an instruction is required", param="instruction")
    model = session.services.get(imodel) if isinstance(imodel, str) else imodel
    question = Message(InstructionContent(instruction, context))
    return aclosing(_turn(session, session.branch(branch), question, model))


async def _turn(session: Session, branch: Branch, question: Message, model: iModel) -> AsyncGenerator[Chunk, None]:
    if branch.busy:
        raise BranchBusyError(f"branch {branch.name!r} is being answered: wait for it, or fork it")
    branch.busy = True
    texts: list[str] = []
    ended: dict[str, Any] = {"partial": True, "finish_reason": "cancelled"}
    try:
        session.add_message(question, branch)
        async with model.stream(session.history(branch)) as chunks:
            async for chunk in chunks:
                texts.append(chunk.data)
                if chunk.kind == "end":
                    ended = dict(chunk.metadata)
                yield chunk
    except PartialAnswerError as error:
        ended = {"partial": True, "finish_reason": "error", "error": error.code}
        raise
    finally:
        if texts:
            answer = AssistantResponseContent("".join(texts))
            session.add_message(Message(answer, metadata={"model": model.name, **ended}), branch)
        branch.busy = False
