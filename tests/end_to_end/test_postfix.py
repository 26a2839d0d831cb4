"""The whole way with a real server: out by SMTP, back as a DSN, and never twice."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage
from pathlib import Path

import pytest

from tests.end_to_end.mailservers import MailServers, mail_servers
from tests.end_to_end.newsletter import Folder

_READERS = 200
_ONCE = (
    "Date",
    "From",
    "To",
    "Subject",
    "Message-ID",
    "MIME-Version",
    "List-Id",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "Content-Type",
    "Feedback-ID",
)


def settings(servers: MailServers) -> str:
    return f"""\
[web]
public_url = "https://news.example.org"
[bounces]
domain = "bounce.example.org"
maildirs = ["{servers.bounces}"]
[relays.main]
host = "127.0.0.1"
port = {servers.smtp}
security = "plain"
connections = 5
"""


@pytest.mark.servers
def test_two_hundred_arrive_once_and_the_unknown_one_is_suppressed(tmp_path: Path) -> None:
    locals_ = [f"r{number}" for number in range(_READERS)]
    with mail_servers(locals_) as servers:
        folder = Folder(tmp_path / "news", settings(servers))
        people = folder.path / "people.csv"
        rows = [f"{local}@example.com,{local.upper()}" for local in [*locals_, "nobody"]]
        people.write_text("\n".join(["email,name", *rows]) + "\n", encoding="utf-8")
        assert folder.mailer("subscribers", "import", str(people)).code == 0
        sent = folder.mailer("send", "1", "--yes", "--json")
        assert sent.code == 0, sent.err
        assert sent.json["books"]["sent"] == _READERS + 1
        assert folder.mailer("send", "1", "--yes").code == 0
        servers.wait_until_delivered()

        seen: set[str] = set()
        for local in locals_:
            (raw,) = servers.mails(local)
            seen.add(check_message(raw, local))
        assert len(seen) == _READERS

        fetched = folder.mailer("bounces", "fetch", "--json")
        assert fetched.code == 0, fetched.err
        listed = folder.mailer("subscribers", "list", "--where", "status:bounced", "--json").json
        assert [row["email"] for row in listed["subscribers"]] == ["nobody@example.com"]
        books = folder.books()
        assert (books["sent"], books["failed"]) == (_READERS, 1)
        why = folder.mailer("why", "nobody@example.com")
        assert "User doesn't exist" in why.out
        assert folder.mailer("bounces", "fetch").code == 0
        assert folder.books() == books


def check_message(raw: bytes, local: str) -> str:
    """Check what every message promises; return its Message-ID."""
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    for part in message.walk():
        assert part.defects == []
    for name in _ONCE:
        assert len(message.get_all(name, [])) == 1, name
    assert message["To"] == f"{local.upper()} <{local}@example.com>"
    assert message["Return-Path"].startswith("<b.")
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert max(len(line) for line in raw.splitlines()) <= 998
    unsubscribe = message["List-Unsubscribe"].split(">")[0].strip(" <")
    assert unsubscribe.startswith("https://news.example.org/u/")
    for kind in ("plain", "html"):
        body = message.get_body(preferencelist=(kind,))
        assert isinstance(body, EmailMessage)
        assert unsubscribe in body.get_content()
    return str(message["Message-ID"])
