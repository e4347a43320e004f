"""A real Prometheus that scrapes what it is given, with the rules of `deploy/otel`."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
import yaml

from harness.processes import Process
from harness.waiting import answers, free_port

FILES = Path(__file__).parents[2] / "deploy" / "otel" / "prometheus"
PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")


def written(directory: Path, targets: Mapping[str, Sequence[str]] | None = None) -> Path:
    """The deployment's configuration and rules, elsewhere; with ``targets`` of one's own, read each second."""
    directory.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = yaml.safe_load((FILES / "prometheus.yml").read_text(encoding="utf-8"))
    rules = [Path(rule).name for rule in config["rule_files"]]
    for rule in rules:
        text = (FILES / rule).read_text(encoding="utf-8")
        text = text if targets is None else re.sub("interval: .*", "interval: 1s", text)
        (directory / rule).write_text(text, encoding="utf-8")
    config["rule_files"] = [str(directory / rule) for rule in rules]
    if targets is not None:
        jobs = [{"job_name": job, "static_configs": [{"targets": list(of)}]} for job, of in targets.items()]
        config |= {"scrape_configs": jobs, "global": {"scrape_interval": "1s", "evaluation_interval": "1s"}}
    path = directory / "prometheus.yml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


class Prometheus(Process):
    """One server, on a port of its own; ``targets`` are addresses by job name."""

    def __init__(self, directory: Path, targets: Mapping[str, Sequence[str]]) -> None:
        assert PROMETHEUS is not None, "there is no prometheus on PATH"
        self.url = f"http://127.0.0.1:{free_port()}"
        options = (f"--config.file={written(directory, targets)}", f"--storage.tsdb.path={directory / 'data'}")
        listen = f"--web.listen-address={self.url.removeprefix('http://')}"
        super().__init__("prometheus", [PROMETHEUS, *options, listen], directory=directory)

    async def is_ready(self) -> bool:
        return await answers(f"{self.url}/-/ready")

    async def get(self, path: str, **parameters: str) -> Any:
        """``data`` of an answer of its API; what it refuses is a ``ValueError`` with its reason."""
        async with httpx2.AsyncClient(timeout=10, trust_env=False) as client:
            answer = (await client.get(f"{self.url}/api/v1/{path}", params=parameters)).json()
        if answer["status"] != "success":
            raise ValueError(f"{parameters}: {answer['error']}")
        return answer["data"]

    async def query(self, expression: str) -> list[Any]:
        """The series of an instant query."""
        found: list[Any] = (await self.get("query", query=expression))["result"]
        return found
