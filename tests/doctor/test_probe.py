"""A probe to the bounce domain goes through Postfix to the mailbox where bounces are read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mailer.bounces.boxes.configured import boxes_of, rules_of
from mailer.bounces.boxes.fetch import fetch
from mailer.config import Security, Settings, load
from mailer.database.engine import Database
from mailer.doctor.probe import probe
from mailer.smtp.dkim import SigningKey, generate_key, load_key
from mailer.tokens import Signer
from tests.databases import empty_database
from tests.end_to_end.mtas import Mta, postfix

pytestmark = [pytest.mark.servers, pytest.mark.slow]
AT = datetime.now(UTC)


@pytest.fixture(scope="module")
def mta() -> Iterator[Mta]:
    with postfix() as running:
        yield running


def settings_for(
    folder: Path, mta: Mta, *, domain: str = "example.com", mail: Path | None = None
) -> Settings:
    (folder / "config.toml").write_text(
        f"""\
bounces.domain = "{domain}"
bounces.maildirs = ["{mail or mta.mail}"]
[relays.main]
host = "127.0.0.1"
port = {mta.ports[Security.PLAIN]}
security = "plain"
"""
    )
    return load(folder / "config.toml")


def test_probe_arrives_and_is_marked(tmp_path: Path, mta: Mta) -> None:
    (tmp_path / "key.pem").write_bytes(generate_key("ed25519"))
    keys = [SigningKey("example.org", "s", load_key(tmp_path / "key.pem"))]
    settings = settings_for(tmp_path, mta)
    with empty_database(tmp_path) as database:
        (found,) = probe(settings, database, keys, at=AT, wait=lambda seconds: None)
    assert (found.level.value, found.check, found.subject) == ("ok", "route", "example.com")
    assert list((mta.mail / "new").iterdir()) == []
    (kept,) = (mta.mail / "cur").iterdir()
    raw = kept.read_bytes()
    assert b"DKIM-Signature: " in raw
    assert b"Subject: mailer-doctor-" in raw
    kept.unlink()


def test_probe_that_a_worker_fetched_first_has_arrived(tmp_path: Path, mta: Mta) -> None:
    settings = settings_for(tmp_path, mta)
    elsewhere = tmp_path / "empty"
    for name in ("new", "cur", "tmp"):
        (elsewhere / name).mkdir(parents=True)
    looking = settings_for(tmp_path, mta, mail=elsewhere)
    with empty_database(tmp_path) as database:
        signer = Signer(database.secrets())

        def worker(seconds: float) -> None:
            with boxes_of(settings)[0]() as box:
                fetch(database, signer, box, clock=lambda: datetime.now(UTC), rules=rules_of(settings))

        (found,) = probe(looking, database, [], at=AT, patience_seconds=30, wait=worker)
    assert found.level.value == "ok"


def test_probe_that_is_lost_or_refused_is_a_problem(tmp_path: Path, mta: Mta) -> None:
    elsewhere = tmp_path / "empty"
    for name in ("new", "cur", "tmp"):
        (elsewhere / name).mkdir(parents=True)
    with empty_database(tmp_path) as database:
        lost = settings_for(tmp_path, mta, mail=elsewhere)
        (found,) = probe(lost, database, [], at=AT, patience_seconds=0.1, wait=lambda seconds: None)
        assert (found.level.value, "did not arrive" in found.message) == ("problem", True)
        refused = settings_for(tmp_path, mta, domain="unknown.example")
        (found,) = probe(refused, database, [], at=AT)
        assert (found.level.value, "was refused" in found.message) == ("problem", True)


@pytest.mark.parametrize(
    ("config", "said"), [("", "no relay"), ('relays.main.host = "mx.example.org"', "no mailbox is read")]
)
def test_probe_needs_a_relay_and_a_mailbox(
    database: Database, tmp_path: Path, config: str, said: str
) -> None:
    (tmp_path / "config.toml").write_text(config)
    (found,) = probe(load(tmp_path / "config.toml"), database, [], at=AT)
    assert (found.level.value, said in found.message) == ("problem", True)
