"""`mailer stats` prints what was counted: for people, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mailer.cli import run
from mailer.cli.charts import sparkline
from tests.databases import empty_database
from tests.reports.scene import Scene

Stats = Callable[..., str]


@pytest.fixture
def stats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Stats:
    """Return a function that runs `mailer stats` on a seeded list of the last months."""
    (tmp_path / "config.toml").write_text("[segments]\nromania = 'country = \"RO\"'\n")
    scene = Scene(11)
    scene.now = datetime.now(UTC) - timedelta(days=150)
    with empty_database(tmp_path) as database:
        for _ in range(4):
            with database.transaction() as connection:
                scene.step(connection)

    def printed(*arguments: str) -> str:
        assert run(["stats", *arguments, "-C", str(tmp_path)]) == 0
        return capsys.readouterr().out

    return printed


def test_list(stats: Stats) -> None:
    found: dict[str, Any] = json.loads(stats("--json"))
    assert len(found["growth"]) == 365
    assert found["growth"][-1]["active"] == found["health"]["statuses"]["active"]
    slugs = [issue["slug"] for issue in found["issues"]]
    rows = list(csv.DictReader(io.StringIO(stats("--csv"))))
    assert [row["slug"] for row in rows] == slugs == sorted(slugs, reverse=True)
    assert [int(row["opens"]) for row in rows] == [issue["opens"] for issue in found["issues"]]
    text = stats("--chart")
    assert f"{found['health']['statuses']['active']:,} active subscribers" in text
    assert all(slug in text for slug in slugs)
    assert f"best hour: {found['best_hour']['verdict']}" in text
    assert "█" in text
    assert "joined in" in text


def test_issue(stats: Stats) -> None:
    found: dict[str, Any] = json.loads(stats("1", "--json"))
    figures = found["figures"]
    rows = list(csv.DictReader(io.StringIO(stats("1", "--csv"))))
    assert [(row["address"], int(row["clicks"])) for row in rows] == [
        (link["address"], link["clicks"]) for link in found["links"]
    ]
    hours = list(csv.DictReader(io.StringIO(stats("1", "--hours"))))
    assert [[row["at"], int(row["machine_opens"])] for row in hours] == [
        [datetime.fromisoformat(hour["at"]).isoformat(), hour["machine_opens"]] for hour in found["hours"]
    ]
    assert sum(int(row["machine_clicks"]) for row in hours) == figures["machine_clicks"]
    text = stats("1", "--chart")
    assert "opens by machines" in text
    assert f"opens {figures['opens']:,} by people, {figures['machine_opens']:,} by machines" in text
    assert "https://example.org/b" in text
    assert "romania" in text
    assert stats("1", "--rebuild", "--json") == stats("1", "--json")


def test_people_behind_a_number(stats: Stats) -> None:
    figures: dict[str, Any] = json.loads(stats("1", "--json"))["figures"]
    same = {name: name for name in ("sent", "failed", "unsubscribed")}
    for group, number in {**same, "opened": "openers", "clicked": "clickers"}.items():
        rows = list(csv.DictReader(io.StringIO(stats("1", "--people", group))))
        assert len({row["email"] for row in rows}) == figures[number], group


@pytest.mark.parametrize(
    "arguments",
    [["--people", "sent"], ["1", "--people", "sent", "--json"], ["1", "--people", "x"], ["--hours"]],
)
def test_people_need_an_issue_and_a_group(tmp_path: Path, arguments: list[str]) -> None:
    assert run(["stats", *arguments, "-C", str(tmp_path)]) == 2


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([], ""),
        ([0], "▁"),
        ([5, 5, 5], "▁▁▁"),
        ([0, 7], "▁█"),
        ([0, 1, 2, 3, 4, 5, 6, 7], "▁▂▃▄▅▆▇█"),
        ([-7, 0, 7], "▁▅█"),
    ],
)
def test_sparkline(numbers: list[float], expected: str) -> None:
    assert sparkline(numbers) == expected


def test_formats_exclude_each_other(tmp_path: Path) -> None:
    assert run(["stats", "--json", "--csv", "-C", str(tmp_path)]) == 2
