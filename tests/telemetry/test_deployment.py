"""The collector, Prometheus and Grafana files: they parse, they fit together, and they name metrics that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from railstream.telemetry.instruments import ACTIVE_STREAMS, COUNTERS, GAUGES, HISTOGRAMS
from railstream.telemetry.names import CALL_METRICS
from railstream.telemetry.prometheus import metric_name

DEPLOY = Path(__file__).parents[2] / "deploy" / "otel"


def load(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))


@pytest.fixture
def dashboard() -> Any:
    return json.loads((DEPLOY / "grafana/dashboards/railstream.json").read_text(encoding="utf-8"))


def exported() -> set[str]:
    """Every series that the metrics page can hold."""
    found = {metric_name(name, unit) for name, (unit, _) in GAUGES.items()} | {metric_name(ACTIVE_STREAMS, "{stream}")}
    found |= {metric_name(name, unit, counter=True) for name, (unit, _) in COUNTERS.items()}
    found |= {metric_name(row.name, row.unit, counter=True) for row in CALL_METRICS if not row.bounds}
    histograms = [(row.name, row.unit) for row in CALL_METRICS if row.bounds]
    histograms += [(name, unit) for name, (unit, _) in HISTOGRAMS.items()]
    return found | {f"{metric_name(*one)}_{part}" for one in histograms for part in ("bucket", "sum", "count")}


def priced() -> set[str]:
    return {rule["record"] for group in load("prometheus/prices.yml")["groups"] for rule in group["rules"]}


def expressions(dashboard: Any) -> dict[str, str]:
    return {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    }


def test_every_metric_that_a_panel_names_is_exported(dashboard: Any) -> None:
    known = exported() | priced()
    labels = {"railstream_reason", "railstream_task", "railstream_rail_flow", "railstream_pool"}
    words = re.compile(r"\b(?:gen_ai_client|railstream|http_server)[_:][a-z0-9_:]+")
    grouped = re.compile(r"(?:by|on|group_left) \([^)]*\)|\{[^}]*\}")

    for panel, expression in expressions(dashboard).items():
        named = set(words.findall(grouped.sub("", expression)))
        assert named, f"panel {panel} names no metric"
        assert named <= known, f"panel {panel} names {named - known}"
        assert not named & labels


def test_the_panels_show_what_a_deployment_is_asked_for(dashboard: Any) -> None:
    shown = " ".join(expressions(dashboard).values())

    for name in (
        "usage_input_tokens_total", "railstream_task", "price_per_million_output_tokens",
        "time_to_first_chunk", "time_per_output_chunk", "queue_wait", "queue_depth", "rail_verdicts", "rail_duration",
        "takeovers", "cancels", "queue_oldest_age", "worker_slots_busy", "generations_running",
        "http_server_request_duration_seconds_count", "jobs_dead", "requests_rejected",
    ):  # fmt: skip
        assert name in shown


def test_expressions_are_balanced(dashboard: Any) -> None:
    for panel, expression in expressions(dashboard).items():
        for opening, closing in ("()", "{}", "[]"):
            assert expression.count(opening) == expression.count(closing), panel


def test_panels_do_not_overlap_and_have_ids_of_their_own(dashboard: Any) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        columns, rows = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        cells = {(x, y) for x in columns for y in rows}
        assert not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))


def test_the_collectors_pipelines_name_parts_that_it_has() -> None:
    collector = load("collector.yaml")
    for pipeline in collector["service"]["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) <= set(collector[kind])
    assert set(collector["service"]["extensions"]) <= set(collector["extensions"])
    assert collector["service"]["pipelines"].keys() == {"traces", "metrics"}


def test_prometheus_scrapes_both_sides_and_the_collectors_exporter() -> None:
    prometheus, collector = load("prometheus/prometheus.yml"), load("collector.yaml")
    jobs = {job["job_name"]: job for job in prometheus["scrape_configs"]}
    assert jobs.keys() == {"railstream-gateway", "railstream-worker", "otel-collector"}
    (target,) = jobs["otel-collector"]["static_configs"][0]["targets"]
    assert target.split(":")[1] == collector["exporters"]["prometheus"]["endpoint"].split(":")[1]
    assert prometheus["rule_files"] == ["/etc/prometheus/prices.yml", "/etc/prometheus/alerts.yml"]
    mounted = yaml.safe_load((DEPLOY.parents[1] / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    assert {volume.split(":")[1] for volume in mounted["prometheus"]["volumes"]} >= set(prometheus["rule_files"])


def test_every_metric_that_an_alert_names_is_exported() -> None:
    rules = [rule for group in load("prometheus/alerts.yml")["groups"] for rule in group["rules"]]
    for rule in rules:
        expression = re.sub(r"by \([^)]*\)", "", rule["expr"])
        named = set(re.findall(r"\b(?:gen_ai_client|railstream|http_server)_[a-z0-9_]+(?=[\[{ )])", expression))
        assert named <= exported(), f"alert {rule['alert']} names {named - exported()}"
        assert {"summary"} <= rule["annotations"].keys()


def test_grafana_finds_its_data_and_its_dashboard(dashboard: Any) -> None:
    (provider,) = load("grafana/provisioning/dashboards/railstream.yaml")["providers"]
    sources = load("grafana/provisioning/datasources/railstream.yaml")["datasources"]
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}

    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"
    assert "prometheus" in {source["type"] for source in sources}
    assert variables == {"datasource", "model"}
