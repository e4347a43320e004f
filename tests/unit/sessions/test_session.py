"""Sessions in this process: branches are ids, forks share, what is cut is marked, and no key is ever shown."""

from __future__ import annotations

import pickle
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from railstream.errors import (
    BranchBusyError,
    BranchExistsError,
    BranchNotFoundError,
    ConfigurationError,
    InvalidRequestError,
)
from railstream.sessions import (
    InstructionContent,
    Message,
    PartialAnswerError,
    Session,
    communicate,
    iModel,
    stream_turn,
)
from railstream.testing import Script, Upstream

KEY = "sk-secret-0123456789"


@pytest.fixture
async def session(upstream: Upstream) -> AsyncGenerator[Session, None]:
    """With one model, ``testing``, of the upstream."""
    async with Session() as made:
        made.services.register(iModel("openai", "testing", base_url=upstream.url, api_key=KEY, max_retries=0))
        yield made


def said(session: Session, branch: str) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in session.history(branch)]


async def test_a_fork_shares_the_past_and_goes_its_own_way(session: Session, upstream: Upstream) -> None:
    upstream.script = Script(text="One.")
    main = session.create_branch("main", system="Be brief.")
    await communicate(session, main, instruction="first", imodel="testing")
    await communicate(session, main, instruction="second", imodel="testing")
    other = session.fork(main, "other", at=main.order[2])
    upstream.script = Script(text="Two.")
    await communicate(session, other, instruction="else", imodel="testing")
    assert said(session, "other")[:3] == said(session, "main")[:3]
    assert said(session, "other")[3:] == [("user", "else"), ("assistant", "Two.")]
    assert (other.parent, other.forked_at) == ("main", main.order[2])
    assert [message["role"] for message in upstream.ledger[-1].body["messages"]] == [
        "system",
        "user",
        "assistant",
        "user",
    ]


async def test_a_thousand_branches_cost_ids_and_not_messages(session: Session) -> None:
    main = session.create_branch("main")
    for number in range(10):
        session.add_message(Message(InstructionContent(f"message {number}")), main)
    for number in range(1000):
        session.fork(main, f"fork-{number}")
    assert len(session.messages) == 10
    assert session.branch("fork-999").order == main.order


async def test_a_session_saves_and_loads(session: Session, tmp_path: Path) -> None:
    main = session.create_branch("main", system="Be brief.")
    await communicate(session, main, {"instruction": "hello", "imodel": "testing"})
    session.fork(main, "other", at=main.order[0])
    session.save(tmp_path / "session.json")
    loaded = Session.load(tmp_path / "session.json")
    assert loaded.to_dict() == session.to_dict()
    assert loaded.history("main") == session.history("main")
    assert KEY not in (tmp_path / "session.json").read_text("utf-8")


def test_a_key_is_in_no_repr_and_no_serialisation(upstream: Upstream) -> None:
    model = iModel("openai", "testing", base_url=upstream.url, api_key=KEY)
    assert KEY not in f"{model!r} {model} {[model]}"
    with pytest.raises(TypeError, match="not serialised"):
        pickle.dumps(model)


def test_a_wrong_model_is_refused_without_its_key() -> None:
    with pytest.raises(ConfigurationError) as raised:
        iModel("openaii", "m", api_key=KEY)
    assert KEY not in str(raised.value)
    with pytest.raises(InvalidRequestError, match="did you mean 'max_tokens'"):
        iModel("scripted", "m", max_token=3)
    with pytest.raises(ConfigurationError, match="spoken to at 'chat/completions'"):
        iModel("openai", "m", endpoint="messages", api_key=KEY)


def test_a_missing_key_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="'OPENAI_API_KEY'"):
        iModel("openai", "gpt-4o-mini")


async def test_the_question_stands_even_when_the_answer_fails(session: Session, upstream: Upstream) -> None:
    upstream.script = Script(text="a b c d", fault="reset", at=2, rate=200)
    branch = session.create_branch("main")
    with pytest.raises(PartialAnswerError) as raised:
        await communicate(session, branch, instruction="hello", imodel="testing")
    assert raised.value.partial == "a b"
    question, answer = session.history(branch)
    assert question.text == "hello"
    assert (answer.text, answer.partial, answer.metadata["finish_reason"]) == ("a b", True, "error")


async def test_who_leaves_a_turn_keeps_what_came_and_frees_the_branch(session: Session, upstream: Upstream) -> None:
    upstream.script = Script(words=500, rate=100)
    branch = session.create_branch("main")
    async with stream_turn(session, branch, "hello", "testing") as chunks:
        async for _ in chunks:
            with pytest.raises(BranchBusyError):
                await communicate(session, branch, instruction="me too", imodel="testing")
            break
    await upstream.ledger.wait(ended=1, timeout=5)
    assert upstream.ledger[0].outcome == "closed_by_client"
    assert session.history(branch)[-1].metadata["finish_reason"] == "cancelled"
    assert not branch.busy


def test_branches_are_named_once_renamed_and_deleted() -> None:
    session = Session()
    main = session.create_branch("main")
    session.add_message(Message(InstructionContent("kept")), main)
    fork = session.fork(main, "fork")
    session.add_message(Message(InstructionContent("only here")), fork)
    with pytest.raises(BranchExistsError):
        session.create_branch("main")
    with pytest.raises(BranchNotFoundError, match="'mian'"):
        session.history("mian")
    session.rename_branch("main", "trunk")
    assert session.branch("fork").parent == "trunk"
    session.delete_branch("fork")
    assert [message.text for message in session.messages.values()] == ["kept"]
