"""Jobs of other releases: those of the last one are run, those of a later one never as something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from railstream import job as jobs
from railstream.ids import new_request_id
from railstream.job import Envelope, Job

FIXTURES = Path(__file__).parent / "fixtures"


class JobOfVersion0(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a worker of the release without versions decodes: it ignores members that it does not know."""

    id: str
    model: str
    created: float
    configs: tuple[str, ...]
    messages: list[dict[str, Any]]
    params: dict[str, Any] = {}
    kind: str = "chat"
    stream: bool = True
    include_usage: bool = False
    tenant: str = ""
    session: str = ""
    branch: str = ""
    traceparent: str = ""
    context: dict[str, Any] = {}
    operations: tuple[Any, ...] = ()
    concurrency: int = 8
    on_failure: Literal["stop", "continue"] = "continue"
    options: dict[str, Any] = {}


def a_job(**given: Any) -> Job:
    return Job(**{"id": new_request_id(), "model": "m", "created": 1.0, "configs": ("c",), "messages": []} | given)


def test_a_job_of_the_release_before_is_understood() -> None:
    job = jobs.decode((FIXTURES / "job-version-0.json").read_bytes())
    assert (job.version, job.kind, job.deadline) == (0, "chat", 0)
    assert job.messages == [{"role": "user", "content": "Hello from the release before"}]


def test_a_worker_of_the_release_before_reads_a_job_of_this_one() -> None:
    job = a_job(deadline=5.0)
    old = msgspec.json.decode(jobs.encode(job), type=JobOfVersion0)
    assert (old.id, old.model, old.configs, old.kind) == (job.id, job.model, job.configs, job.kind)


def test_a_job_is_written_with_this_releases_version() -> None:
    assert jobs.decode(jobs.encode(a_job())).version == jobs.VERSION


@pytest.mark.parametrize(
    "change", [{"version": jobs.VERSION + 1}, {"kind": "paint"}, {"messages": 5}, {"version": "x"}]
)
def test_what_is_not_understood_is_no_job_and_still_has_its_id(change: dict[str, Any]) -> None:
    job = a_job()
    data = msgspec.json.encode(msgspec.to_builtins(job) | change)
    with pytest.raises(ValueError, match="job"):
        jobs.decode(data)
    assert jobs.read_envelope(data).id == job.id


@pytest.mark.parametrize("cut", [60, 200])
def test_a_job_that_is_cut_or_no_text_still_has_its_id(cut: int) -> None:
    job = a_job(messages=[{"role": "user", "content": "x" * 300}])
    assert jobs.read_envelope(jobs.encode(job)[:cut]).id == job.id
    assert jobs.read_envelope(jobs.encode(job).replace(b"xxx", b"\xff\xfe\\ud8")).id == job.id
    assert jobs.read_envelope(b"[" * 100_000, job.id) == Envelope(job.id)
    assert jobs.read_envelope(b"no job", "nor an id") == Envelope()
