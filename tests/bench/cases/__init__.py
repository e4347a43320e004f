"""The cases: each puts loads on systems of its own and adds its rows to the findings."""

from __future__ import annotations

from bench.cases.first import first
from bench.cases.head_of_line import head_of_line
from bench.cases.jobs import jobs
from bench.cases.judge import judge
from bench.cases.load import load
from bench.cases.memory import memory
from bench.cases.rails import rails
from bench.cases.sweep import sweep
from bench.settings import Case

CASES: dict[str, Case] = {
    "load": load,
    "first": first,
    "rails": rails,
    "judge": judge,
    "memory": memory,
    "head_of_line": head_of_line,
    "jobs": jobs,
    "sweep": sweep,
}
