"""Which requests the log chooses: a share by id, and always what did not simply finish."""

from __future__ import annotations

import logging

import pytest
from railstream.ids import new_request_id
from railstream.request_log import RequestLog, share_of


def test_a_choice_is_a_word_or_a_share() -> None:
    assert [share_of(choice) for choice in ("all", "failed", "off", "0.25", "1", "0")] == [1, 0, -1, 0.25, 1, 0]
    for wrong in ("some", "2", "-0.5", "", "nan"):
        with pytest.raises(ValueError, match="none of all, failed, off, or a share"):
            share_of(wrong)


def written(log: RequestLog, caplog: pytest.LogCaptureFixture, ids: list[str], outcome: str) -> set[str]:
    caplog.clear()
    with caplog.at_level(logging.INFO, "railstream.request_log"):
        for request_id in ids:
            log.write(request_id, outcome, {"model": "m", "rail": "", "code": None})
    assert all(set(record.__dict__["fields"]) == {"request_id", "outcome", "model"} for record in caplog.records)
    return {record.__dict__["fields"]["request_id"] for record in caplog.records}


def test_a_share_takes_the_same_requests_in_every_process(caplog: pytest.LogCaptureFixture) -> None:
    ids = [new_request_id() for _ in range(2000)]
    gateway, worker = RequestLog("0.25"), RequestLog("0.25")
    chosen = written(gateway, caplog, ids, "finished")
    assert chosen == written(worker, caplog, ids, "finished")
    assert 380 < len(chosen) < 620
    for outcome in ("failed", "blocked", "cancelled", "refused", "slow"):
        assert written(gateway, caplog, ids, outcome) == set(ids)
    assert written(RequestLog("off"), caplog, ids, "failed") == set()
