"""Bad input: a clear error, the documented exit code, and nothing changed."""

from __future__ import annotations

import asyncio
import email
import socket
from pathlib import Path

import pytest
from aiosmtpd.handlers import Sink
from aiosmtpd.smtp import SMTP, AuthResult

from tests.end_to_end.newsletter import Folder
from tests.served import Ready, served


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "news")
    made.subscribe(3)
    return made


def write_issue(folder: Folder, text: str) -> None:
    (folder.path / "issues" / "001-short.md").write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("---\nsubtitle: x\n---\n\nHello.\n", ["001-short.md", "title"]),
        ("---\ntitle: [x\n---\n\nHello.\n", ["001-short.md:"]),
        ("---\ntitle: x\n\nHello.\n", ["001-short.md:"]),
        ("---\ntitle: x\n---\n\nHello {{ subscriber.name\n", ["001-short.md:5"]),
        ("---\ntitle: x\n---\n\nHello\n\n{% if subscriber.name %}\n", ["001-short.md:"]),
        ("---\ntitle: x\n---\n\nHello {{ 'a' * 10**9 }}\n", ["001-short.md:5"]),
        ("---\ntitle: x\n---\n\n{{ nobody_knows }}\n", ["001-short.md:5", "nobody_knows"]),
    ],
)
def test_broken_issue_is_not_queued(folder: Folder, text: str, said: list[str]) -> None:
    write_issue(folder, text)
    ran = folder.mailer("send", "1", "--yes")
    assert ran.code == 1
    assert ran.err.startswith("error: ")
    for word in said:
        assert word in ran.err
    assert "Traceback" not in ran.err
    assert folder.mailer("status", "--json").json["issues"] == []
    assert folder.kept() == []


def test_line_break_in_a_title_starts_no_header(folder: Folder) -> None:
    write_issue(folder, '---\ntitle: "x\\r\\nBcc: y@example.org"\n---\n\nHello.\n')
    ran = folder.mailer("render", "1", "--out", "-")
    assert ran.code == 0
    assert "Bcc" not in email.message_from_string(ran.out)


def test_unknown_key_is_answered_with_the_right_one(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "news", "[web]\nprot = 1\n")
    ran = folder.mailer("config", "check")
    assert ran.code == 6
    assert "config.toml:5: unknown key 'web.prot'; did you mean 'port'?" in ran.err


def test_no_such_issue_names_those_there_are(folder: Folder) -> None:
    ran = folder.mailer("send", "9", "--yes")
    assert ran.code == 1
    assert "no issue '9'" in ran.err
    assert "001-short" in ran.err


def test_off_a_terminal_sending_wants_yes(folder: Folder) -> None:
    ran = folder.mailer("send", "1")
    assert (ran.code, folder.kept()) == (5, [])
    assert "--yes" in ran.err
    assert folder.mailer("status", "--json").json["issues"] == []


def test_wrong_usage_is_exit_2(folder: Folder) -> None:
    assert folder.mailer("sned").code == 2
    assert "Did you mean 'send'" in folder.mailer("sned").err
    assert folder.mailer("send", "1", "--nonsense").code == 2
    ran = folder.mailer("send", "1", "--yes", "--to", "tag:vip adn x = 1")
    assert ran.code == 2
    assert "column 9" in ran.err


def relay(port: int, more: str = "") -> str:
    return (
        '[web]\npublic_url = "https://news.example.org"\n'
        f'[relays.main]\nhost = "127.0.0.1"\nport = {port}\nsecurity = "plain"\nconnections = 2\n{more}'
    )


def test_unreachable_relay_loses_nothing(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        folder = Folder(tmp_path / "news", relay(unused.getsockname()[1]))
        folder.subscribe(20)
        ran = folder.mailer("send", "1", "--yes")
    assert ran.code == 6
    assert "127.0.0.1" in ran.err
    books = folder.books()
    assert (books["audience"], books["queued"]) == (20, 20)


class Login(SMTP):
    """A server that takes mail from those who know the password."""

    def __init__(self) -> None:
        super().__init__(
            Sink(), hostname="login.example", auth_require_tls=False, auth_required=True,
            authenticator=lambda *given: AuthResult(success=given[-1].password == b"right", handled=False),
        )  # fmt: skip


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
def test_wrong_password_pauses_and_fails_nobody(tmp_path: Path) -> None:
    async def serve(ready: Ready) -> None:
        async with await asyncio.get_running_loop().create_server(Login, "127.0.0.1", 0) as server:
            ready(server.sockets[0].getsockname()[1])
            await server.serve_forever()

    with served(serve) as port:
        folder = Folder(tmp_path / "news", relay(port, 'user = "ana"\n'))
        folder.subscribe(10)
        ran = folder.mailer("send", "1", "--yes", MAILER_RELAYS__MAIN__PASSWORD="wrong")
        assert ran.code == 6
        assert "535" in ran.err
        assert "user and password" in ran.err
        assert "wrong" not in ran.out + ran.err
        assert folder.mailer("status", "1", "--json").json["state"] == "paused"
        books = folder.books()
        assert (books["queued"], books["failed"], books["deferred"]) == (10, 0, 0)
        assert folder.mailer("send", "1", "--yes", MAILER_RELAYS__MAIN__PASSWORD="right").code == 4
        assert folder.mailer("resume", "1").code == 0
        ran = folder.mailer("send", "1", "--yes", MAILER_RELAYS__MAIN__PASSWORD="right")
        assert ran.code == 0, ran.err
        assert folder.books()["sent"] == 10


def test_public_relay_is_refused_without_address_or_https(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "news", '[relays.main]\nhost = "smtp.example.org"\n')
    folder.subscribe(1)
    ran = folder.mailer("send", "1", "--yes")
    assert ran.code == 5
    assert "public_url" in ran.err
    ran = folder.mailer("send", "1", "--yes", MAILER_NEWSLETTER__POSTAL_ADDRESS=" ")
    assert ran.code == 5
    assert "postal_address" in ran.err


def test_changed_source_does_not_change_what_was_frozen(folder: Folder) -> None:
    assert folder.mailer("send", "1", "--yes").code == 0
    write_issue(folder, "---\ntitle: Another\n---\n\nSomething else.\n")
    ran = folder.mailer("send", "1", "--yes")
    assert ran.code == 0
    assert "The version frozen then is sent." in ran.err
    assert len(folder.kept()) == 3


def test_latin_1_and_line_breaks_in_a_csv(folder: Folder) -> None:
    path = folder.path / "more.csv"
    path.write_bytes(
        'email;name\nx@example.org;José\n"y@example.org";"a\r\nBcc: z@example.org"\n'.encode("latin-1")
    )
    ran = folder.mailer("subscribers", "import", str(path))
    assert ran.code == 0
    assert "Latin-1" in ran.err
    listed = folder.mailer("subscribers", "list", "--json").json
    assert listed["total"] == 5
    # The line break goes, the person stays: no name can begin a header of its own.
    assert [one["name"] for one in listed["subscribers"][-2:]] == ["José", "a Bcc: z@example.org"]
