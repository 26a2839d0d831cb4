"""`mailer webhooks`: endpoints come and go, and deliveries can be seen and repeated."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from mailer.cli import run
from mailer.database.engine import Database
from mailer.database.tables import WebhookDelivery
from mailer.errors import ExitCode
from mailer.webhooks import queue
from mailer.webhooks.queue import Occurrence

AT = datetime(2026, 3, 2, 9, tzinfo=UTC)
URL = "https://hooks.example.org/mailer"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.toml").write_text("", encoding="utf-8")
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    """Run the command; return what it printed on standard output and standard error."""
    assert run(["webhooks", *arguments]) == ExitCode.DONE
    out, err = capsys.readouterr()
    return out, err


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(said(capsys, *arguments, "--json")[0])
    return found


def test_endpoint_is_added_listed_resent_to_and_removed(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    assert said(capsys, "list")[1].strip() == "no webhooks"
    secret, remedy = said(capsys, "add", URL, "--event", "issue.*", "--event", "complaint")
    assert secret.startswith("whsec_")
    assert "standardwebhooks.com" in remedy
    (endpoint,) = listed(capsys, "list")["webhooks"]
    assert (endpoint["id"], endpoint["url"], endpoint["patterns"]) == (1, URL, ["issue.*", "complaint"])
    assert "secret" not in endpoint
    assert URL in said(capsys, "list")[0]
    assert said(capsys, "deliveries")[1].strip() == "no deliveries"
    with (
        Database("sqlite:///subscribers.db", folder=folder) as database,
        database.transaction() as connection,
    ):
        queue.put(connection, [Occurrence("complaint", {"issue": "001-short"})], at=AT)
        connection.execute(
            update(WebhookDelivery).values(state="failed", due_at=None, said="no route to host")
        )
    words = said(capsys, "deliveries", "--state", "failed")[0].split()
    assert {"complaint", "failed", URL, "host"} < set(words)
    assert said(capsys, "resend", words[0])[0] == f"{words[0]}: queued for 1 endpoint\n"
    (waiting,) = listed(capsys, "deliveries", "--webhook", "1")["deliveries"]
    assert (waiting["state"], waiting["attempts"]) == ("waiting", 0)
    assert said(capsys, "remove", "1")[0] == "webhook 1: removed\n"
    assert listed(capsys, "list")["webhooks"] == []


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (("add", "http://hooks.example.org"), "write an address that begins with https://"),
        (("add", URL, "--event", "everything"), "'everything' is not one of"),
        (("remove", "7"), "there is no webhook 7"),
        (("resend", "evt_0"), "there is no event 'evt_0'"),
    ],
)
def test_mistakes_are_refused_with_a_remedy(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], remedy: str
) -> None:
    assert run(["webhooks", *arguments]) in (ExitCode.USAGE, ExitCode.FAILURE)
    assert remedy in capsys.readouterr().err
