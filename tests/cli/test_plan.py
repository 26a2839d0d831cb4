"""`mailer plan`: everybody is counted once, with the reason, and nothing is changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from mailer.cli import run
from mailer.config import load
from mailer.database.engine import Database
from mailer.database.tables import Subscriber, SubscriberTag, Suppression
from tests.end_to_end.newsletter import Folder

NOW = datetime.now(UTC)
RELAY = '[relays.main]\nhost = "smtp.example.org"\nrate_per_second = 2\n'
GMAIL = '[providers.gmail]\ndomains = ["gmail.com"]\nrate_per_second = 0.5\n'


def person(number: int, domain: str = "example.org", status: str = "active", **more: Any) -> dict[str, Any]:
    address = f"p{number}@{domain}"
    return {
        "id": number, "address": address, "address_key": address, "domain": domain, "name": "",
        "status": status, "attributes": {}, "created_at": NOW, "changed_at": NOW, "paused_until": None,
        **more,
    }  # fmt: skip


PEOPLE = [
    *(person(n) for n in range(1, 11)),
    *(person(n, "gmail.com") for n in range(11, 41)),
    person(41, status="pending"),
    person(42, status="unsubscribed"),
    person(43, status="unsubscribed"),
    person(44, status="bounced"),
    person(45, status="complained"),
    person(46),
    person(47, paused_until=NOW + timedelta(days=3)),
    person(48, paused_until=NOW - timedelta(days=3)),
]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "news", RELAY + GMAIL)
    with Database(load(made.path / "config.toml").paths.database, folder=made.path) as database:
        database.open()
        with database.transaction() as connection:
            connection.execute(insert(Subscriber), PEOPLE)
            connection.execute(
                insert(SubscriberTag), [{"subscriber_id": n, "tag": "vip"} for n in (1, 11, 41, 46)]
            )
            connection.execute(
                insert(Suppression), [{"address_key": "p46@example.org", "reason": "x", "at": NOW}]
            )
    return made


@pytest.fixture
def planned(folder: Folder, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    def ask(*options: str) -> dict[str, Any]:
        assert run(["plan", "1", "--json", "-C", str(folder.path), *options]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
        return found

    return ask


def test_everybody_is_counted_once_with_the_reason(planned: Callable[..., dict[str, Any]]) -> None:
    found = planned()
    assert found["left_out"] == {
        "unsubscribed": 2,
        "pending": 1,
        "bounced": 1,
        "complained": 1,
        "suppressed address": 1,
        "paused by themselves": 1,
    }
    assert found["audience"] == 41
    assert found["audience"] + sum(found["left_out"].values()) == found["subscribers"] == len(PEOPLE)


def test_segment_leaves_the_others_out(planned: Callable[..., dict[str, Any]]) -> None:
    found = planned("--to", "tag:vip")
    assert found["audience"] == 2
    assert found["left_out"]["outside the segment"] == 39
    assert found["audience"] + sum(found["left_out"].values()) == len(PEOPLE)


def test_domains_are_counted_and_the_narrowest_limit_named(planned: Callable[..., dict[str, Any]]) -> None:
    found = planned()
    assert found["domains"]["top"] == [
        {"domain": "gmail.com", "messages": 30},
        {"domain": "example.org", "messages": 11},
    ]
    assert found["domains"]["by_provider"] == {"gmail": 30}
    # Thirty at one in two seconds; the relay would need half of that for all.
    assert found["estimate"]["seconds"] == 60
    assert found["estimate"]["bottleneck"] == "provider gmail: 30 messages at rate_per_second = 0.5"


def test_sizes_are_those_of_composed_messages(planned: Callable[..., dict[str, Any]]) -> None:
    sizes = planned()["sizes"]
    assert sizes["sampled"] == 41
    assert 1_000 < sizes["mean_octets"] <= sizes["largest_octets"]
    assert sizes["total_octets"] == 41 * sizes["mean_octets"]


def test_uncomposable_messages_are_reported_before_sending(
    folder: Folder, planned: Callable[..., dict[str, Any]]
) -> None:
    issue = folder.path / "issues" / "001-short.md"
    issue.write_text("---\ntitle: x\n---\n\n{{ subscriber.plan }}\n", encoding="utf-8")
    unfit = planned()["sizes"]["unfit"]
    assert len(unfit) == 41
    assert "'subscriber.plan' is missing for subscriber 1" in unfit[0]


def test_plan_changes_nothing_and_people_can_read_it(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    with Database("sqlite:///subscribers.db", folder=folder.path) as database:
        before = database.change_counter()
        stamp = before()
        assert run(["plan", "1", "-C", str(folder.path)]) == 0
        out = capsys.readouterr().out
        assert before() == stamp
    assert "Audience: 41 of 48 subscribers" in out
    assert "         2  left out: unsubscribed" in out
    assert "Duration: 60 s for the first attempt for everyone" in out


def test_plan_of_a_queued_issue_shows_the_remaining_deliveries(
    folder: Folder, planned: Callable[..., dict[str, Any]]
) -> None:
    # Without a relay, so that nothing leaves this machine.
    config = folder.path / "config.toml"
    config.write_text(config.read_text(encoding="utf-8").split("[relays")[0], encoding="utf-8")
    assert run(["send", "1", "--yes", "-C", str(folder.path)]) == 0
    found = planned()
    assert found["state"] == "finished"
    assert (found["books"]["sent"], found["to_send"], found["estimate"]) == (41, 0, None)


def test_plan_of_a_queued_issue_needs_only_its_frozen_edition(
    folder: Folder, planned: Callable[..., dict[str, Any]]
) -> None:
    config = folder.path / "config.toml"
    config.write_text(config.read_text(encoding="utf-8").split("[relays")[0], encoding="utf-8")
    assert run(["send", "1", "--yes", "-C", str(folder.path)]) == 0
    before = planned()
    (folder.path / "issues" / "001-short.md").write_text("---\ntitle: [\n", encoding="utf-8")
    assert before == planned()
