"""`mailer demo`: everything on one machine, with made-up subscribers and a misbehaving server."""

from __future__ import annotations

import email
import http.client
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import click
import uvicorn

from mailer.audience.transfer.importing import import_file
from mailer.bounces.boxes.configured import rules_of
from mailer.bounces.boxes.fetch import fetch
from mailer.bounces.boxes.maildir import Maildir
from mailer.bounces.refusals import learn_by
from mailer.cli import books as shown
from mailer.cli.app import App, Command, json_option, pass_app
from mailer.config.shipped import shipped
from mailer.delivery import dispatch, editions
from mailer.delivery.books import Books, books_of
from mailer.delivery.sender import Ended
from mailer.errors import MailerError, RefusedError
from mailer.rehearsal import script
from mailer.web.app import create_app

_MARK = ".mailer-demo"
_CONFIG = """\
# Made by `mailer demo`; delete the folder when you have seen enough.
[newsletter]
name = "Windowsill Letters"
author_address = "robin@example.org"
postal_address = "Windowsill Letters, 1 Example Street, 010101 Bucharest, Romania"

[delivery]
retry_base = "PT1S"          # a real newsletter waits five minutes before it tries again
wait_for_retries = true

[bounces]
maildirs = ["bounces"]
"""
_FIRST = "Ana Bogdan Carmen Dan Elena Florin Gabriela Horia Ioana Luca Maria Nicu Olga Petru Radu Ștefan"
_LAST = "Albu Barbu Cozma Dima Enache Florea Groza Iancu Lungu Marin Nistor Oprea Popa Rusu Stan Tudor"
_SUBSCRIBERS = 500
_GONE = [f"gone{number}" for number in range(1, 6)]
_BUSY = [f"busy{number}" for number in range(1, 9)]
_MOVED = "moved"
_LEAVES = "leaves"


@click.command(cls=Command)
@click.option("--folder", type=click.Path(path_type=Path), default=Path("demo"), show_default=True)
@json_option
@pass_app
def demo(app: App, folder: Path, as_json: bool) -> None:
    """Try everything on this machine with made-up subscribers. Nothing leaves the machine.

    The demo imports 500 subscribers and sends them the sample issue through the built-in outbox, which
    refuses some of them permanently and some temporarily. It then reads a bounce, unsubscribes someone
    with one click, sends again to show that nobody gets a second copy, and prints the totals.
    """
    _prepare(folder)
    app.directory, app.config_file = folder, None
    books = _Demo(app, say=(lambda text: None) if as_json else app.out).play()
    if as_json:
        app.emit({"folder": str(folder), "books": books.as_dict()})


class _Demo:
    """The demo, one method for each step; each prints what happened."""

    def __init__(self, app: App, *, say: Callable[[str], None]) -> None:
        self._folder = app.directory
        self._say = say
        self._settings = app.settings
        self._database = app.database
        self._signer = app.signer
        self._script = script.Script(
            always=dict.fromkeys(_GONE, "550 5.1.1 No such user here"),
            at_first=dict.fromkeys(_BUSY, "452 4.3.1 Insufficient system storage, try again"),
        )

    def play(self) -> Books:
        """Run all steps and return the final books; raise `MailerError` if they are not as expected."""
        self._import()
        first = self._send("Sent the sample issue")
        self._bounce()
        self._leave()
        before = self._mails()
        self._send("Sent it again")
        self._say(f"  {self._mails() - before} more emails: nobody gets it twice.")
        with self._database.reading() as session:
            books = books_of(session, self._issue_id)
        self._say("The books:")
        for line in shown.lines(books):
            self._say(line)
        if not books.balanced or books.sent != first.books.sent - 1 or self._mails() != before:
            raise MailerError("the demo did not end as expected")
        self._say(f"Show the emails:  mailer outbox -C {self._folder}")
        self._say(f"Serve the pages:  mailer serve -C {self._folder}")
        return books

    def _import(self) -> None:
        path = self._folder / "subscribers.csv"
        path.write_text(_subscribers(), encoding="utf-8")
        report = import_file(self._database, path, secret=self._database.secrets()[0], at=datetime.now(UTC))
        self._say(f"Imported {report.added} made-up subscribers from {path}.")

    def _send(self, what: str) -> Ended:
        path = editions.find_source(self._settings, "1")
        edition = editions.build(self._settings, path)
        queued = dispatch.enqueue(self._settings, self._database, edition, path, "", at=datetime.now(UTC))
        self._issue_id = queued.id
        ended = dispatch.dispatch(
            self._settings,
            self._database,
            queued,
            self._signer,
            learn=learn_by(self._settings.bounces),
            answer=self._script,
        )
        books = ended.books
        self._say(f"{what}: {books.sent} sent, {books.failed} refused permanently (550).")
        return ended

    def _bounce(self) -> None:
        """Return one message as a DSN, and read it."""
        dsn = script.report(
            self._mail_to(_MOVED), status="5.1.1", diagnostic="550 5.1.1 The account does not exist"
        )
        script.put(self._folder / "bounces", "1.returned", dsn)
        tally = fetch(
            self._database,
            self._signer,
            Maildir(self._folder / "bounces"),
            clock=lambda: datetime.now(UTC),
            rules=rules_of(self._settings),
        )
        self._say(f"Read {tally.read} bounce: {_MOVED}@example.com is now suppressed.")

    def _leave(self) -> None:
        """Unsubscribe as a mail client does, with the one-click POST of RFC 8058."""
        header = email.message_from_bytes(self._mail_to(_LEAVES))["List-Unsubscribe"]
        target = urlsplit(header.split(">")[0].strip(" <"))
        with _served(self._pages()) as port:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request(
                "POST",
                target.path,
                body="List-Unsubscribe=One-Click",
                headers={"Content-Type": "application/x-www-form-urlencoded"},
            )
            status = connection.getresponse().status
            connection.close()
        if status != 200:
            raise MailerError(f"the one-click unsubscribe returned status {status}")
        self._say(f"{_LEAVES}@example.com unsubscribed with one click: HTTP {status}.")

    def _pages(self) -> object:
        return create_app(self._database, self._signer, self._settings)

    def _mail_to(self, local: str) -> bytes:
        wanted = f"X-Original-To: {local}@".encode()
        for path in (self._folder / "outbox" / "new").iterdir():
            content = path.read_bytes()
            if wanted in content[:1000]:
                return content
        raise MailerError(f"the outbox holds no message to {local}")

    def _mails(self) -> int:
        return sum(1 for _ in (self._folder / "outbox" / "new").iterdir())


def _prepare(folder: Path) -> None:
    """Create the demo's folder again; refuse a folder that the demo did not create."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / _MARK).exists():
            raise RefusedError(f"{folder} was not created by the demo", remedy="name another with --folder")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARK).touch()
    (folder / "config.toml").write_text(_CONFIG, encoding="utf-8")
    for name in ("email_templates", "issues"):
        shutil.copytree(shipped(name), folder / name)


def _subscribers() -> str:
    """Return a CSV of made-up people, the same each time."""
    chance = random.Random(5321)  # noqa: S311 - invents names
    special = [*_GONE, *_BUSY, _MOVED, _LEAVES]
    rows = ["email,name,country"]
    rows += [f"{local}@example.com,{local.capitalize()},RO" for local in special]
    for number in range(_SUBSCRIBERS - len(special)):
        first, last = chance.choice(_FIRST.split()), chance.choice(_LAST.split())
        rows.append(f"reader{number}@example.{chance.choice(['com', 'net', 'org'])},{first} {last},RO")
    return "\n".join(rows) + "\n"


@contextmanager
def _served(pages: object) -> Iterator[int]:
    """Serve the pages on a free loopback port while the block runs."""
    config = uvicorn.Config(pages, host="127.0.0.1", port=0, log_level="warning", lifespan="on")  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise MailerError("the web pages could not be served")
            thread.join(0.02)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)
