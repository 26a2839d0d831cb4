"""The page about deliverability: the doctor's findings with a real name server, warm-up, and reports."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mailer.config import load
from mailer.console.deliverability import examined, findings_of, reports, warm_up
from mailer.console.desk import Desk
from mailer.delivery.relays import warming_up
from mailer.doctor import Names
from mailer.reports.authentication import authentication_summary
from mailer.tokens import Signer
from tests.databases import empty_database
from tests.doctor.dns_server import name_server
from tests.reports.test_authentication import store

NOW = datetime.now(UTC)
_CONFIG = """
[newsletter]
author_address = "me@news.test"
[relays.new]
host = "127.0.0.1"
port = 1
security = "plain"
warmup = { start = "%s", first_day = 100 }
[relays.old]
host = "127.0.0.1"
port = 1
security = "plain"
"""
_ZONE = """\
news.test. 3600 IN TXT "v=spf1 <i>"
_dmarc.news.test. 3600 IN TXT "v=DMARC1; p=reject; rua=mailto:me@news.test"
news.test. 3600 IN MX 10 mail.news.test.
mail.news.test. 3600 IN A 192.0.2.25
"""


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    (tmp_path / "config.toml").write_text(_CONFIG % NOW.date(), encoding="utf-8")
    with empty_database(tmp_path) as database:
        yield Desk(tmp_path / "config.toml", database, Signer(database.secrets()))


def test_check_shows_what_the_doctor_finds(desk: Desk, tmp_path: Path) -> None:
    with name_server(tmp_path, _ZONE) as server:
        page = findings_of(examined(desk, Names(server)))
    problems, rest = page[page.index("problem") :], page[page.index(" ok</h2>") :]
    assert page.index("problems</h2>") < page.index(" ok</h2>")
    # The record is wrong, and the domain's owner wrote it: it is shown, and runs nowhere.
    assert "&lt;i&gt;" in problems
    assert "<i>" not in page
    assert "<b>DMARC</b>" in rest
    assert "The policy is reject" in rest
    assert "Replies, bounces and requests to unsubscribe go to mail.news.test" in rest
    # What is a command stays one, and an error does not repeat where it happened.
    assert "mailer dkim keygen" in page
    assert '<b>Relay</b> <span class="soft">127.0.0.1:1</span></p><div><p>Cannot be reached' in problems


def test_relays_that_warm_up_are_listed(desk: Desk) -> None:
    settings = load(desk.config_path)
    today = warm_up(list(warming_up(settings, NOW.date())))
    assert today.count("<tr>") == 2
    assert "<td>new</td>" in today
    assert '<td class="num">100</td><td class="num">150</td>' in today
    last = next(
        day for n in range(99) if not list(warming_up(settings, (day := NOW.date() + timedelta(n + 1))))
    )
    assert "no limit" in warm_up(list(warming_up(settings, last - timedelta(1))))


def test_reports_show_the_worst_source_first(desk: Desk) -> None:
    def shown_now() -> str:
        with desk.database.reading() as connection:
            return reports(authentication_summary(connection, since=NOW - timedelta(days=30)))

    assert "No DMARC or TLS reports yet" in shown_now()
    store(desk.database, NOW)
    shown = shown_now()
    assert "3 reports about 2026-03-01, from google.com, yahoo.com, Company-X." in shown
    assert shown.index("2001:db8::5") < shown.index("192.0.2.1")
    assert "certificate-expired" in shown
