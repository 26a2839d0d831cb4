"""What a monitoring system reads."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import insert, update

from mailer import api_tokens as access
from mailer.api_tokens import Scope
from mailer.cluster.chores import Chore, last_done, recorded
from mailer.database.tables import Delivery, IssueState, StoredIssue, WaitingLetter
from mailer.reports.rollups import refresh
from tests.conftest import PROJECT
from tests.databases import recount
from tests.postgres import Server
from tests.web.conftest import AT, OpenSite, Site, edition

API_PAGE = PROJECT / "docs" / "reference" / "api.md"
URLS = ["sqlite", "postgresql"]


def scraped(site: Site, *scopes: Scope) -> httpx.Response:
    with site.database.transaction() as connection:
        _, text = access.create(connection, "prometheus", scopes, at=AT)
    return site.client.get("/api/v1/metrics", headers={"Authorization": f"Bearer {text}"})


def gauges(answer: httpx.Response) -> dict[str, float]:
    """Return each sample under its name and labels, such as `mailer_subscribers active`."""
    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, "text/plain")
    return {
        " ".join([sample.name, *(sample.labels[label] for label in sorted(sample.labels))]): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


@pytest.mark.parametrize("kind", URLS)
def test_gauges_are_the_rows_of_the_database(
    open_site: OpenSite, kind: str, request: pytest.FixtureRequest
) -> None:
    server: Server | None = request.getfixturevalue("postgresql") if kind == "postgresql" else None
    with open_site(url=server.new_database() if server else "sqlite:///subscribers.db") as site:
        people = [site.subscribe(f"p@{domain}") for domain in ("example.org", "gmail.com", "unknown.example")]
        site.issue(edition("006-winter"))
        issue = site.issue(edition("007-spring"))
        with site.database.transaction() as connection:
            connection.execute(
                update(StoredIssue).where(StoredIssue.c.id == issue).values(state=IssueState.PAUSED.value)
            )
            connection.execute(
                update(StoredIssue).where(StoredIssue.c.id != issue).values(state=IssueState.FINISHED.value)
            )
            refused = (None, "mailbox-full", "invalid-mailbox")
            for person, state, reason in zip(people, ("sent", "deferred", "failed"), refused, strict=True):
                connection.execute(
                    insert(Delivery).values(
                        issue_id=issue, subscriber_id=person, state=state, attempts=1, changed_at=AT,
                        bounce_class=reason,
                    )
                )  # fmt: skip
            recount(connection)
            late = datetime.now(UTC) - timedelta(minutes=10)
            connection.execute(
                insert(WaitingLetter).values(
                    subscriber_id=people[0], kind="welcome", asked_at=late, due_at=late
                )
            )
        refresh(site.database, at=AT, segments={}, quiet_days=30)
        recorded(Chore("retention", 60, lambda: None), site.database).do()
        found = gauges(scraped(site, Scope.READ_METRICS))
    assert (found["mailer_subscribers active"], found["mailer_subscribers erased"]) == (3, 0)
    assert (found["mailer_issues paused"], found["mailer_issues finished"]) == (1, 1)
    assert (found["mailer_deliveries 007-spring sent"], found["mailer_deliveries 007-spring failed"]) == (
        1,
        1,
    )
    assert found["mailer_refusals mailbox-full google deferred"] == 1
    assert found["mailer_refusals invalid-mailbox other failed"] == 1
    assert not [name for name in found if name.startswith("mailer_deliveries 006")]
    assert (found["mailer_letters welcome"], found["mailer_workers"], found["mailer_runs"]) == (1, 0, 0)
    assert 600 <= found["mailer_letters_overdue_seconds"] < 660
    assert found["mailer_statistics_counted_timestamp_seconds"] == AT.timestamp()
    assert 0 <= time.time() - found["mailer_task_success_timestamp_seconds retention"] < 60


def test_only_success_is_recorded_and_once_a_minute(open_site: OpenSite) -> None:
    with open_site() as site:
        done: list[int] = []
        good = recorded(Chore("good", 1, lambda: done.append(1)), site.database)
        bad = recorded(Chore("bad", 1, lambda: 1 / 0), site.database)
        look = site.database.change_counter()
        good.do()
        before = look()
        good.do()
        with pytest.raises(ZeroDivisionError):
            bad.do()
        assert (len(done), look()) == (2, before)
        with site.database.reading() as connection:
            assert list(last_done(connection)) == ["good"]


@pytest.mark.parametrize("scopes", [[], [one for one in Scope if one is not Scope.READ_METRICS]])
def test_gauges_need_their_own_scope(open_site: OpenSite, scopes: list[Scope]) -> None:
    with open_site() as site:
        assert scraped(site, *scopes).status_code == 403
        assert site.client.get("/api/v1/metrics").status_code == 401


def test_nobody_is_named(open_site: OpenSite) -> None:
    with open_site() as site:
        site.subscribe("ana@example.org")
        assert "ana" not in scraped(site, Scope.READ_METRICS).text


def test_alerts_are_about_gauges_that_exist(open_site: OpenSite) -> None:
    rules = yaml.safe_load((PROJECT / "deploy" / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))
    used = {
        name.removesuffix("_bucket")
        for rule in rules["groups"][0]["rules"]
        for name in re.findall(r"mailer_[a-z_]+", rule["expr"])
    }
    documented = set(re.findall(r"`(mailer_[a-z_]+)`", API_PAGE.read_text(encoding="utf-8")))
    with open_site() as site:
        refresh(site.database, at=AT, segments={}, quiet_days=30)
        answer = scraped(site, Scope.READ_METRICS)
    served = {family.name for family in text_string_to_metric_families(answer.text)}
    assert used <= served
    assert documented == served
