"""Debian's Prometheus reads the metrics, and its promtool accepts the rules and the dashboard's queries."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from mailer import api_tokens as access
from mailer.api_tokens import Scope
from mailer.delivery.latencies import Latencies
from mailer.reports.rollups import refresh
from tests.conftest import PROJECT
from tests.ports import free_port
from tests.programs import program
from tests.web.conftest import AT, OpenSite, Site

ALERTS = PROJECT / "deploy" / "prometheus" / "alerts.yml"
DASHBOARD = PROJECT / "deploy" / "grafana" / "mailer.json"


def queries() -> list[str]:
    """Return the queries of the dashboard's panels."""
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def test_promtool_accepts_rules_and_queries(tmp_path: Path) -> None:
    recorded = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(queries())]
    panels = tmp_path / "panels.yml"
    panels.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    command = [program("promtool"), "check", "rules", str(ALERTS), str(panels)]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert f"{len(recorded)} rules found" in checked.stdout


def test_alerts_fire_when_they_should(tmp_path: Path) -> None:
    """An issue paused for 20 minutes, a task that stopped two hours ago, and all the rest well."""
    good = 'mailer_task_success_timestamp_seconds{task="statistics"}'
    cases = {
        "rule_files": [str(ALERTS)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": 'mailer_issues{state="paused"}', "values": "1x180"},
                    {"series": 'mailer_issues{state="missed"}', "values": "0x180"},
                    {"series": good, "values": "0+60x180"},
                    {"series": 'mailer_task_success_timestamp_seconds{task="bounces"}', "values": "0x180"},
                    {"series": "mailer_letters_overdue_seconds", "values": "5x180"},
                    # Most replies of one relay take between 10 and 30 seconds, and none of the other's.
                    *_buckets("slow", {"10": 20, "30": 60, "+Inf": 60}),
                    *_buckets("quick", {"10": 60, "30": 60, "+Inf": 60}),
                ],
                "alert_rule_test": [
                    {"eval_time": "14m", "alertname": "MailerIssuePaused", "exp_alerts": []},
                    _fires("20m", "MailerIssuePaused", {"state": "paused"}),
                    {"eval_time": "120m", "alertname": "MailerIssueMissed", "exp_alerts": []},
                    {"eval_time": "120m", "alertname": "MailerLettersWait", "exp_alerts": []},
                    {"eval_time": "59m", "alertname": "MailerTaskFails", "exp_alerts": []},
                    _fires("120m", "MailerTaskFails", {"task": "bounces"}),
                    {"eval_time": "10m", "alertname": "MailerRelaySlow", "exp_alerts": []},
                    _fires("60m", "MailerRelaySlow", {"relay": "slow"}),
                ],
            }
        ],
    }
    path = tmp_path / "cases.yml"
    path.write_text(yaml.safe_dump(cases))
    done = subprocess.run([program("promtool"), "test", "rules", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def _buckets(relay: str, growth: dict[str, int]) -> list[dict[str, str]]:
    """Return the series of a histogram of replies; each bucket grows by so much a minute."""
    return [
        {"series": f'mailer_reply_seconds_bucket{{relay="{relay}",le="{bound}"}}', "values": f"0+{rate}x180"}
        for bound, rate in growth.items()
    ]


def _fires(time: str, name: str, labels: dict[str, str]) -> dict[str, object]:
    rules = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"][0]["rules"]
    summary: str = next(rule for rule in rules if rule["alert"] == name)["annotations"]["summary"]
    for label, value in labels.items():
        summary = summary.replace("{{ $labels." + label + " }}", value)
    alert = {"exp_labels": labels, "exp_annotations": {"summary": summary}}
    return {"eval_time": time, "alertname": name, "exp_alerts": [alert]}


def test_dashboard_shows_gauges_that_exist(open_site: OpenSite) -> None:
    with open_site() as site:
        refresh(site.database, at=AT, segments={}, quiet_days=30)
        text = site.client.get("/api/v1/metrics", headers=_authorized(site)).text
    served = set(re.findall(r"^# TYPE (mailer_\w+)", text, re.MULTILINE))
    shown = {name.removesuffix("_bucket") for query in queries() for name in re.findall(r"mailer_\w+", query)}
    assert shown <= served
    assert {"mailer_connect_seconds", "mailer_reply_seconds", "mailer_accept_seconds"} <= shown


@pytest.mark.slow
def test_prometheus_scrapes_the_gauges(open_site: OpenSite, tmp_path: Path) -> None:
    with open_site() as site:
        site.subscribe("a@example.org")
        times = Latencies(site.database, lambda: 0.0)
        times.connected("smarthost", 0.3)
        times.connected("smarthost", 400.0)
        times.write()
        host = f"{site.client.base_url.host}:{site.client.base_url.port}"
        config = {
            "global": {"scrape_interval": "1s"},
            "rule_files": [str(ALERTS)],
            "scrape_configs": [
                {
                    "job_name": "mailer",
                    "metrics_path": "/api/v1/metrics",
                    "authorization": {"credentials": _authorized(site)["Authorization"].split()[1]},
                    "static_configs": [{"targets": [host]}],
                }
            ],
        }
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
        with prometheus(tmp_path) as url, httpx.Client(base_url=url, trust_env=False) as client:
            until = time.monotonic() + 60
            while not (found := _query(client, 'mailer_subscribers{status="active"}')):
                assert time.monotonic() < until, client.get("/api/v1/targets").text
                time.sleep(0.2)
            assert found == ["1"]
            assert _query(client, 'up{job="mailer"}') == ["1"]
            buckets = "mailer_connect_seconds_bucket{relay='smarthost',le=~'0.25|0.5|300.0|.Inf'}"
            assert _query(client, f"sort({buckets})") == ["0", "1", "1", "2"]
            assert _query(client, "mailer_connect_seconds_sum") == ["400.3"]


def _query(client: httpx.Client, query: str) -> list[str]:
    """Return the values of a query; empty while Prometheus starts."""
    with contextlib.suppress(httpx.TransportError):
        answer = client.get("/api/v1/query", params={"query": query})
        if answer.status_code == 200:
            return [one["value"][1] for one in answer.json()["data"]["result"]]
    return []


@contextlib.contextmanager
def prometheus(folder: Path) -> Iterator[str]:
    """Run Debian's Prometheus in a folder with its prometheus.yml."""
    address = f"127.0.0.1:{free_port()}"
    options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    command = [program("prometheus"), *options, f"--web.listen-address={address}"]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stderr=log, stdout=log) as process:
        try:
            yield f"http://{address}"
        finally:
            process.terminate()


def _authorized(site: Site) -> dict[str, str]:
    with site.database.transaction() as connection:
        _, token = access.create(connection, "prometheus", [Scope.READ_METRICS], at=AT)
    return {"Authorization": f"Bearer {token}"}
