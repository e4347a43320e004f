"""Every Redis key and channel, in one place: the contract for other services that read the streams.

========================================  =======  ==========================================================
key                                       type     meaning
========================================  =======  ==========================================================
``railstream:jobs[:<pool>]``              stream   jobs to run; group ``workers``; written through FastStream
``railstream:dead``                       stream   jobs that failed their last delivery, with the reason
``railstream:workers``                    zset     worker name -> last seen, unix seconds by Redis's clock
``railstream:worker:<name>``              hash     pool, version, slots, release, jobs of a worker; expires
``railstream:gateway:<name>``             string   expires when its gateway has died; ``readers:<name>`` of requests
``railstream:probe:<name>``                string   written by a gateway that is asked whether it is ready
``railstream:{pp}:events:<id>``           stream   one request's events; entry id ``<attempt>-<seq>``
``railstream:{pp}:request:<id>``          hash     status, owner, model, config, times, cancel flag, readers
``…:request:<id>:readers:<token>``        string   one change of its readers is done; a repeat of it changes nothing
``railstream:{pp}:idempotency:<digest>``  string   Idempotency-Key -> request id and body fingerprint
``railstream:{pp}:session:<id>``          hash     one conversation: tenant, name, times, who writes on a branch
``…:session:<id>:messages``               hash     message id -> the message, stored once
``…:session:<id>:branches``               hash     branch -> ids of its messages
``…:session:<id>:refs``                   hash     message id -> on how many branches it is
``railstream:{pp}:sessions:<tenant>``     zset     sessions of one API key -> last use, unix seconds
``railstream:{pp}:usage:<day>``           hash     tokens of the day, by model, key and task
``railstream:{pp}:history``                hash     which Redis this is, and since when; see ``scripts.RESERVE``
``railstream:{pp}:live:<id>``             channel  the entries of ``events:<id>`` as they are written
``railstream:limit:<digest>``             hash     a model's calls and tokens of the last minute
``railstream:cancel``                     channel  request ids to cancel, heard by every worker
``railstream:never``                      -        never exists; named to ask whether Redis may write
========================================  =======  ==========================================================

``pp`` is the partition, two hex digits: the last two of a request id. It is the cluster hash tag, so all keys
of one request live in one slot.
"""

from __future__ import annotations

from railstream.ids import partition_of

GROUP = "workers"
DEAD = "railstream:dead"
WORKERS = "railstream:workers"
NEVER = "railstream:never"
CANCEL_CHANNEL = "railstream:cancel"
PARTITIONS = tuple(f"{n:02x}" for n in range(256))


def gateway(name: str) -> str:
    return f"railstream:gateway:{name}"


def probe(name: str) -> str:
    """``name``: of the gateway that asks whether Redis takes writes."""
    return f"railstream:probe:{name}"


def worker(name: str) -> str:
    return f"railstream:worker:{name}"


def jobs(pool: str = "") -> str:
    return f"railstream:jobs:{pool}" if pool else "railstream:jobs"


def events(request_id: str) -> str:
    return f"railstream:{{{partition_of(request_id)}}}:events:{request_id}"


def request(request_id: str) -> str:
    return f"railstream:{{{partition_of(request_id)}}}:request:{request_id}"


def change_of_readers(request_id: str, token: str) -> str:
    """``token``: of one change, so that a repeat of it after a broken connection counts nobody twice."""
    return f"{request(request_id)}:readers:{token}"


def live(request_id: str) -> str:
    return f"railstream:{{{partition_of(request_id)}}}:live:{request_id}"


def history(partition: str) -> str:
    return f"railstream:{{{partition}}}:history"


def idempotency(digest: str) -> str:
    """``digest``: hex digest of API key and Idempotency-Key; the request id that it maps to shares its tail."""
    return f"railstream:{{{digest[-2:]}}}:idempotency:{digest}"


def session(session_id: str) -> str:
    return f"railstream:{{{partition_of(session_id)}}}:session:{session_id}"


def session_messages(session_id: str) -> str:
    return f"{session(session_id)}:messages"


def session_branches(session_id: str) -> str:
    return f"{session(session_id)}:branches"


def of_session(session_id: str) -> tuple[str, str, str, str]:
    """All keys of a session: itself, its messages, branches and refs."""
    own = session(session_id)
    return own, session_messages(session_id), session_branches(session_id), f"{own}:refs"


def sessions(tenant: str) -> str:
    """``tenant``: digest of an API key; empty when none are configured."""
    return f"railstream:{{{tenant[-2:] or '00'}}}:sessions:{tenant}"


def usage(partition: str, day: str) -> str:
    """``day``: ``YYYY-MM-DD`` in UTC."""
    return f"railstream:{{{partition}}}:usage:{day}"


def limit(digest: str) -> str:
    """``digest``: of provider, account and model, which share their requests and tokens per minute."""
    return f"railstream:limit:{digest}"
