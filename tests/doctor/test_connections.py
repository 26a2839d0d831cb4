"""What the doctor finds when it connects: relays, their names, the pages, and this machine."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import http.server
import json
import ssl
import threading
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from sqlalchemy import text

from mailer.cli import run
from mailer.config import Relay, Security, load
from mailer.database.engine import Database
from mailer.delivery.letter_sender import LetterSender
from mailer.doctor import Finding, Names
from mailer.doctor.blocklists import blocklists
from mailer.doctor.machine import books, clock, disk
from mailer.doctor.pages import pages
from mailer.doctor.receiving import Policy, sts_policy
from mailer.doctor.relays import connections, own_names
from mailer.errors import ExitCode
from mailer.tokens import Signer
from mailer.web.app import create_app
from tests.databases import empty_database
from tests.doctor.dns_server import name_server
from tests.postgres import Server
from tests.served import Ready, served
from tests.smtp.scripted import Script, serving
from tests.smtp.test_dial import certificate, server_context
from tests.web.conftest import serving as serving_pages

NOW = datetime.datetime.now(datetime.UTC)
ZONE = """\
good.test. 3600 IN A 192.0.2.1
1.2.0.192.in-addr.arpa. 3600 IN PTR good.test.
bare.test. 3600 IN A 192.0.2.2
liar.test. 3600 IN A 192.0.2.3
3.2.0.192.in-addr.arpa. 3600 IN PTR else.test.
else.test. 3600 IN A 192.0.2.99
odd.test. 3600 IN A 192.0.2.4
4.2.0.192.in-addr.arpa. 3600 IN PTR host.odd.test.
host.odd.test. 3600 IN A 192.0.2.4
elsewhere.test. 3600 IN A 192.0.2.50
1.2.0.192.zen.spamhaus.org. 3600 IN A 127.0.0.2
1.2.0.192.zen.spamhaus.org. 3600 IN TXT "https://check.example/192.0.2.1"
1.2.0.192.bl.spamcop.net. 3600 IN A 127.255.255.254
"""


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Names]:
    with name_server(tmp_path_factory.mktemp("names"), ZONE) as server:
        yield Names(server)


def said(findings: Iterator[Finding]) -> list[str]:
    return [f"{one.level.value} {one.check}: {one.message}" for one in findings]


@contextlib.contextmanager
def relay(tls: ssl.SSLContext | None = None) -> Iterator[Relay]:
    """Run an SMTP server in a thread."""

    async def go(ready: Ready) -> None:
        async with serving(Script(), tls) as one:
            ready(one.port)
            await asyncio.Event().wait()

    with served(go) as port:
        yield Relay(host="127.0.0.1", port=port, security=Security.TLS if tls else Security.PLAIN)


@pytest.mark.parametrize(
    ("lasts", "level", "phrase"),
    [(90, "ok", "; its certificate is valid until "), (3, "warning", "; its certificate expires on ")],
)
def test_certificate_of_a_relay_is_valid_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lasts: int, level: str, phrase: str
) -> None:
    authority = certificate("Test authority")
    path = tmp_path / "authority.pem"
    path.write_bytes(authority[0].public_bytes(serialization.Encoding.PEM))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    leaf = certificate("127.0.0.1", authority, lasts=datetime.timedelta(days=lasts))
    end = leaf[0].not_valid_after_utc
    greetings: dict[str, str] = {}
    with relay(server_context(leaf, tmp_path)) as one:
        found = said(connections([("main", one)], tmp_path, greetings, at=NOW))
    assert found == [f"{level} relay: answers with TLSv1.3{phrase}{end:%Y-%m-%d}"]
    assert list(greetings) == ["main"]


def test_relay_with_a_stranger_s_certificate_is_a_problem(tmp_path: Path) -> None:
    stranger = server_context(certificate("127.0.0.1", certificate("Somebody")), tmp_path)
    with relay(stranger) as one:
        found = list(connections([("main", one)], tmp_path, {}, at=NOW))
    assert [(each.level.value, each.check) for each in found] == [("problem", "relay")]
    assert "its certificate is not trusted" in found[0].message


def test_relay_that_is_away_is_a_problem_and_no_relay_a_warning(tmp_path: Path) -> None:
    with relay() as one:
        assert said(connections([("main", one)], tmp_path, {}, at=NOW)) == [
            "ok relay: answers, without TLS, on this machine"
        ]
    gone = list(connections([("main", one)], tmp_path, {}, at=NOW))
    assert [(each.level.value, each.remedy) for each in gone] == [
        ("problem", "check host, port and firewall")
    ]
    assert said(connections([], tmp_path, {}, at=NOW)) == [
        "warning relay: there is no relay: messages stay in the outbox on this machine"
    ]


@pytest.mark.parametrize(
    ("host", "greeted", "expected"),
    [
        (
            "good.test",
            "good.test",
            ["ok ptr: its name good.test leads back to it", "ok helo: belongs to 192.0.2.1"],
        ),
        (
            "bare.test",
            "bare.test",
            ["problem ptr: no PTR record; Gmail and others refuse mail from such an address"],
        ),
        ("liar.test", "liar.test", ["problem ptr: its name else.test does not lead back to it"]),
        (
            "odd.test",
            "odd.test",
            ["ok ptr: its name host.odd.test leads back to it", "ok helo: belongs to 192.0.2.4"],
        ),
        (
            "odd.test",
            "elsewhere.test",
            [
                "ok ptr: its name host.odd.test leads back to it",
                "warning helo: the relay gives itself this name, which does not "
                "belong to its address 192.0.2.4",
            ],
        ),
        (
            "127.0.0.1",
            "good.test",
            ["ok ptr: its name good.test leads back to it", "ok helo: belongs to 192.0.2.1"],
        ),
        (
            "127.0.0.1",
            "machine.test",
            ["problem helo: the relay on this machine gives itself a name that has no address"],
        ),
        ("smtp.sendgrid.net", "", []),
    ],
)
def test_names_of_a_direct_relay_agree(names: Names, host: str, greeted: str, expected: list[str]) -> None:
    assert said(own_names(names, [("main", Relay(host=host))], {"main": greeted})) == expected


def test_listed_address_is_a_problem_and_a_list_that_refuses_us_a_warning(names: Names) -> None:
    found = said(blocklists(names, names.addresses("good.test"), ["good.test"]))
    assert found == [
        "problem blocklist: listed on zen.spamhaus.org: https://check.example/192.0.2.1",
        "warning blocklist: bl.spamcop.net does not answer this resolver",
        "ok blocklist: not on b.barracudacentral.org",
        "ok blocklist: not on dbl.spamhaus.org",
        "ok blocklist: not on multi.surbl.org",
    ]


def test_pages_answer_and_one_click_reaches_them(names: Names, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("")
    settings = load(tmp_path / "config.toml")
    with empty_database(tmp_path) as database:
        database.open()
        signer = Signer(database.secrets())
        letters = LetterSender(settings, database, signer)
        with serving_pages(create_app(database, signer, settings, letters=letters)) as url:
            found = said(pages(names, url, at=NOW))
    assert found == [
        "problem pages: only this machine can reach the pages, so readers cannot unsubscribe",
        "ok pages: mailer answers",
        "ok list-unsubscribe: one-click requests reach mailer",
    ]


@contextlib.contextmanager
def proxy(health: int, one_click: int, body: bytes = b"ok\nletters: ok\n") -> Iterator[str]:
    """Serve what a proxy answers in mailer's place."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(health)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.send_response(one_click)
            self.send_header("location", "/login")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("status", [301, 403, 502])
def test_proxy_that_stops_one_click_is_a_problem(names: Names, status: int) -> None:
    with proxy(200, status) as url:
        found = said(pages(names, url, at=NOW))
    assert found[1:] == [
        "ok pages: mailer answers",
        f"problem list-unsubscribe: something in between answers one-click requests with {status} (RFC 8058)",
    ]


def test_pages_that_are_away_or_someone_else_s_are_a_problem(names: Names) -> None:
    with proxy(502, 404, b"<h1>Bad gateway</h1>") as url:
        assert said(pages(names, url, at=NOW))[1:] == [
            f"problem pages: {url}/healthz answers 502, and not as mailer does"
        ]
    with proxy(503, 404, b"failing\nletters: failing since 2026-12-04T08:00:12Z\n") as url:
        assert said(pages(names, url, at=NOW))[1:] == [
            "problem pages: a task of the pages fails (letters: failing since 2026-12-04T08:00:12Z)",
            "ok pages: mailer answers",
            "ok list-unsubscribe: one-click requests reach mailer",
        ]
    gone = said(pages(names, url, at=NOW))[1:]
    assert gone == ["problem pages: the pages cannot be reached (Connection refused)"]
    assert said(pages(names, "https://nowhere.test", at=NOW)) == [
        "problem pages: the host of web.public_url has no address"
    ]


def test_pages_with_a_stranger_s_certificate_are_a_problem(names: Names, tmp_path: Path) -> None:
    stranger = server_context(certificate("127.0.0.1", certificate("Somebody")), tmp_path)
    with relay(stranger) as one:
        found = said(pages(names, f"https://127.0.0.1:{one.port}", at=NOW))[1:]
    assert [each.partition(": self")[0].partition(": unable")[0] for each in found] == [
        "problem pages: the pages cannot be reached (its certificate is not trusted"
    ]


def test_policy_of_mta_sts_names_every_exchanger() -> None:
    policy = Policy("enforce", ["mail.good.test", "*.mx.good.test"])
    assert said(sts_policy(["mail.good.test", "a.mx.good.test"], "good.test", policy)) == [
        "ok mta-sts: the policy is in mode enforce and names every MX host"
    ]
    assert said(sts_policy(["other.test"], "good.test", policy)) == [
        "problem mta-sts: the policy does not name other.test, so servers that obey it will not deliver there"
    ]
    assert said(sts_policy(["other.test"], "good.test", Policy("none")))[0].startswith("ok")


def test_database_is_new_then_good_then_damaged(tmp_path: Path) -> None:
    with Database("sqlite:///a.db", folder=tmp_path) as database:
        assert said(books(database)) == ["ok database: new; it is made on first use"]
        database.open()
        assert said(books(database))[0].endswith("no damage, and every issue's books balance")
        with database.transaction() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
        assert [(one.level.value, one.remedy) for one in books(database)] == [("problem", "mailer upgrade")]
        with database.transaction() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        assert [one.remedy for one in books(database)] == ["install the newer version of mailer"]


Usage = namedtuple("Usage", "free")


@pytest.mark.parametrize(("free", "level"), [(10**8, "problem"), (10**9, "warning"), (10**10, "ok")])
def test_full_disk_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, level: str
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: Usage(free))
    assert [one.level.value for one in disk(tmp_path)] == [level]


@pytest.mark.parametrize(("says", "level"), [("yes", "ok"), ("no", "warning"), ("", "ok")])
def test_clock_that_is_not_synchronized_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, level: str
) -> None:
    command = tmp_path / "timedatectl"
    command.write_text(f"#!/bin/sh\necho {says}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with Database("sqlite:///a.db", folder=tmp_path) as database:
        assert [one.level.value for one in clock(database)] == [level]


def test_clock_is_compared_with_the_database_server_s(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Late(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Late:
            return cls.fromtimestamp(datetime.datetime.now().timestamp() + 60, tz)  # noqa: DTZ005

    with postgresql.lent_database() as url, Database(url) as database:
        database.open()
        assert "problem" not in {one.level.value for one in clock(database)}
        monkeypatch.setattr("mailer.doctor.machine.datetime", Late)
        assert next(one.message for one in clock(database)).startswith("differs by 60 s from")


def test_command_prints_every_finding_and_exits_6_for_problems(
    names: Names, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.toml").write_text('newsletter.author_address = "me@good.test"\n')
    server = f"{names.resolver.nameservers[0]}:{names.resolver.port}"
    line = ["doctor", "-C", str(tmp_path), "--dns", server, "--blocklists"]
    assert run([*line, "--json"]) == ExitCode.CONFIGURATION
    told = json.loads(capsys.readouterr().out)
    checks = {"spf", "dkim", "dmarc", "alignment", "mx", "mta-sts", "tls-rpt", "bimi", "relay", "pages"}
    checks |= {"blocklist", "ttl", "clock", "disk", "database"}
    assert {one["check"] for one in told["findings"]} == checks
    assert sum(told["counts"].values()) == len(told["findings"])
    assert run([*line, "--quiet"]) == ExitCode.CONFIGURATION
    shown = capsys.readouterr()
    assert "no SPF record" in shown.out
    assert 'good.test. IN TXT "v=spf1 mx ~all"' in shown.out
    assert "ok " not in shown.out
    assert shown.err == ""
