"""A rehearsal is a whole run against real sockets, and touches nothing."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from mailer.config import Settings, load, section
from mailer.database.engine import Database
from mailer.database.tables import SubscriberTag
from mailer.delivery.ending import Ending
from mailer.errors import RefusedError
from mailer.rehearsal.rehearse import Rehearsed, rehearse
from mailer.rehearsal.scenario import Scenario
from tests.delivery.scene import EDITION, learn_nothing, subscribe

PEOPLE = 200


def settings(tmp_path: Path, more: str = "") -> Settings:
    path = tmp_path / "config.toml"
    path.write_text('[newsletter]\npostal_address = "1 Example Street"\n' + more, encoding="utf-8")
    return load(path)


def play(
    database: Database,
    tmp_path: Path,
    *faults: dict[str, Any],
    people: int = PEOPLE,
    more: str = "",
    segment: str = "",
    **server: Any,
) -> Rehearsed:
    subscribe(database, people)
    folder = tmp_path / "rehearsal"
    folder.mkdir()
    scenario = section(Scenario, {"faults": faults, "server": server})
    with Database("sqlite:///rehearsal.db", folder=folder) as copy:
        rehearsed, _ = rehearse(
            settings(tmp_path, more),
            database,
            copy,
            EDITION,
            scenario,
            folder,
            segment=segment,
            learn=learn_nothing,
            at=datetime.now(UTC),
        )
    assert rehearsed.ended.books.balanced
    return rehearsed


def test_nothing_wrong_reaches_everybody_once(database: Database, tmp_path: Path) -> None:
    found = play(database, tmp_path)
    assert (found.ended.ending, found.ended.books.sent) == (Ending.FINISHED, PEOPLE)
    assert (found.seen.messages, found.seen.copies, found.returned) == (PEOPLE, 0, 0)


def test_greylisted_mail_arrives_after_the_time_has_passed(database: Database, tmp_path: Path) -> None:
    found = play(database, tmp_path, {"kind": "greylist", "share": "20%", "lasts": "PT2H"})
    assert found.ended.books.sent == PEOPLE
    assert found.seen.faults["greylist"] > 20
    assert found.lasted >= timedelta(hours=2)


@pytest.mark.parametrize("kind", ["421 4.3.2 Closing", "450 4.2.0 Not now", "452 4.3.1 Disk full"])
@pytest.mark.parametrize("at", ["rcpt", "body"])
def test_temporary_refusals_are_tried_again(database: Database, tmp_path: Path, kind: str, at: str) -> None:
    found = play(database, tmp_path, {"kind": "reply", "reply": kind, "share": "10%", "at": at})
    assert (found.ended.books.sent, found.seen.messages, found.seen.copies) == (PEOPLE, PEOPLE, 0)
    assert found.seen.faults[kind[:3]] > 5


def test_lasting_refusals_fail(database: Database, tmp_path: Path) -> None:
    found = play(database, tmp_path, {"kind": "reply", "reply": "550 5.1.1 No such user", "share": "10%"})
    assert found.ended.books.failed == found.seen.faults["550"] > 5
    assert found.ended.books.sent == PEOPLE - found.ended.books.failed == found.seen.messages


def test_what_never_gets_better_is_given_up(database: Database, tmp_path: Path) -> None:
    fault = {"kind": "reply", "reply": "450 4.2.0 Not now", "share": "5%", "times": 0}
    found = play(database, tmp_path, fault)
    assert found.ended.ending is Ending.FINISHED
    assert found.ended.books.failed == PEOPLE - found.ended.books.sent > 0
    assert timedelta(hours=40) < found.lasted <= timedelta(hours=49)


def test_closed_connections_lose_nothing(database: Database, tmp_path: Path) -> None:
    found = play(database, tmp_path, {"kind": "close", "share": "20%", "times": 2})
    assert (found.ended.books.sent, found.seen.messages, found.seen.copies) == (PEOPLE, PEOPLE, 0)
    assert found.seen.faults["close"] > 20


@pytest.mark.parametrize("kept", [True, False])
def test_lost_answer_is_sent_again_and_its_copy_counted(
    database: Database, tmp_path: Path, kept: bool
) -> None:
    found = play(database, tmp_path, {"kind": "drop", "share": "10%", "kept": kept})
    assert found.ended.books.sent == PEOPLE
    assert found.seen.copies == (found.seen.faults["drop"] if kept else 0)
    assert found.seen.messages == PEOPLE + found.seen.copies


def test_held_after_a_lost_answer_if_so_configured(database: Database, tmp_path: Path) -> None:
    found = play(
        database, tmp_path, {"kind": "drop", "share": "10%"}, more='[delivery]\nuncertain = "hold"\n'
    )
    assert found.ended.ending is Ending.WAITING
    assert found.ended.books.uncertain == found.seen.faults["drop"] > 5


def test_slow_replies_take_their_time(database: Database, tmp_path: Path) -> None:
    found = play(database, tmp_path, {"kind": "slow", "share": "5%", "delay": "PT90S"})
    assert (found.ended.books.sent, found.seen.copies) == (PEOPLE, 0)
    assert found.lasted >= timedelta(seconds=90)


def test_bounces_come_back_as_reports(database: Database, tmp_path: Path) -> None:
    found = play(database, tmp_path, {"kind": "bounce", "share": "10%"})
    assert found.ended.books.sent == PEOPLE
    reports = list((found.maildir / "new").iterdir())
    assert len(reports) == found.returned == found.seen.faults["bounce"] > 5
    assert b"Status: 5.1.1" in reports[0].read_bytes()


def test_configured_rate_decides_how_long_it_lasts(database: Database, tmp_path: Path) -> None:
    relay = '[relays.main]\nhost = "smtp.example.org"\nrate_per_second = 2\n'
    found = play(database, tmp_path, people=100, more=relay)
    assert found.ended.books.sent == 100
    assert timedelta(seconds=48) < found.lasted < timedelta(seconds=60)


def test_provider_that_holds_us_back_is_waited_for(database: Database, tmp_path: Path) -> None:
    fault = {"kind": "reply", "reply": "421 4.7.0 Try again in 1200 seconds", "share": "1%"}
    found = play(database, tmp_path, fault)
    assert found.ended.books.sent == PEOPLE
    assert found.lasted >= timedelta(minutes=20)


def test_segment_chooses_the_audience(database: Database, tmp_path: Path) -> None:
    subscribe(database, 10, first=PEOPLE + 1)
    with database.transaction() as connection:
        connection.execute(
            insert(SubscriberTag), [{"subscriber_id": PEOPLE + n, "tag": "vip"} for n in (1, 2, 3)]
        )
    assert play(database, tmp_path, segment="tag:vip").ended.books.audience == 3


def test_empty_audience_is_refused(database: Database, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="nobody would get it"):
        play(database, tmp_path, segment="tag:nobody")


def test_the_database_is_only_read(database: Database, tmp_path: Path) -> None:
    subscribe(database, 5, first=PEOPLE + 1)
    assert database.path is not None
    database.close()
    before = hashlib.sha256(database.path.read_bytes()).hexdigest()
    changed = database.change_counter()
    stamp = changed()
    with pytest.raises(RefusedError), Database("sqlite:///copy.db", folder=tmp_path) as copy:
        rehearse(
            settings(tmp_path),
            database,
            copy,
            EDITION,
            Scenario(),
            tmp_path,
            segment="tag:x",
            learn=learn_nothing,
            at=datetime.now(UTC),
        )
    assert changed() == stamp
    assert hashlib.sha256(database.path.read_bytes()).hexdigest() == before


def test_same_seed_goes_the_same_way(tmp_path: Path) -> None:
    counts = []
    for name in ("one", "two"):
        home = tmp_path / name
        home.mkdir()
        faults: list[dict[str, Any]] = [
            {"kind": "reply", "reply": "550 5.1.1 No such user", "share": "5%"},
            {"kind": "greylist", "share": "10%", "lasts": "PT1S"},
            {"kind": "drop", "share": "3%", "kept": True},
        ]
        with Database("sqlite:///subscribers.db", folder=home) as made:
            made.open()
            counts.append(play(made, home, *faults).seen.faults)
    assert counts[0] == counts[1]
