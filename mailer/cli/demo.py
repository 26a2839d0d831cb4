"""`mailer demo`: everything on one machine, with made-up subscribers and a misbehaving server."""

from __future__ import annotations

import contextlib
import email
import email.policy
import http.client
import random
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import urlsplit

import click
import uvicorn

from mailer.audience.preferences import allow_tracking
from mailer.audience.transfer import exporting
from mailer.audience.transfer.importing import import_file
from mailer.audience.transitions import Origin
from mailer.bounces.boxes.configured import rules_of
from mailer.bounces.boxes.fetch import fetch
from mailer.bounces.boxes.maildir import Maildir
from mailer.bounces.refusals import learn_by
from mailer.cli import books as shown
from mailer.cli.app import App, Command, json_option, pass_app
from mailer.config.shipped import shipped
from mailer.delivery import dispatch, editions, enqueueing
from mailer.delivery.books import Books, books_of
from mailer.delivery.ending import Ended
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

[tracking]
opens = true
clicks = true
"""
_FIRST = "Ana Bogdan Carmen Dan Elena Florin Gabriela Horia Ioana Luca Maria Nicu Olga Petru Radu Ștefan"
_LAST = "Albu Barbu Cozma Dima Enache Florea Groza Iancu Lungu Marin Nistor Oprea Popa Rusu Stan Tudor"
_SUBSCRIBERS = 500
_GONE = [f"gone{number}" for number in range(1, 6)]
_BUSY = [f"busy{number}" for number in range(1, 9)]
_MOVED = "moved"
_LEAVES = "leaves"
_READERS = 40
_READER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
_OUTBOX = "http://127.0.0.1:8601"
_CONSOLE = "http://127.0.0.1:8602"


@click.command(cls=Command)
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    default=Path("demo"),
    show_default=True,
    help="The folder to create the demo in.",
)
@click.option(
    "--open", "opens", is_flag=True, help="At the end, open the outbox and the console in your browser."
)
@json_option
@pass_app
def demo(app: App, folder: Path, opens: bool, as_json: bool) -> None:
    """Try everything on this machine with made-up subscribers. Nothing leaves the machine.

    The demo imports 500 subscribers and sends them the sample issue through the built-in outbox, which
    refuses some of them permanently and some temporarily. It then reads a bounce, unsubscribes someone
    with one click, lets some readers open and click, sends again to show that nobody gets a second copy,
    and prints the totals.
    """
    _prepare(folder)
    app.directory, app.config_file = folder, None
    books = _Demo(app, say=(lambda text: None) if as_json else app.out).play()
    if as_json:
        app.emit({"folder": str(folder), "books": books.as_dict()})
    if opens:
        _open_pages(folder)


def _open_pages(folder: Path) -> None:
    """Serve the outbox and the console, and open both in the browser, until Ctrl-C."""
    command = [sys.executable, "-m", "mailer"]
    port, console_port = (str(_free_port(url)) for url in (_OUTBOX, _CONSOLE))
    with (
        subprocess.Popen([*command, "outbox", "--port", port, "-C", str(folder)]) as outbox,
        subprocess.Popen(
            [*command, "console", "--open", "--port", console_port, "-C", str(folder)]
        ) as console,
    ):
        try:
            if _answers(outbox, int(port)):
                webbrowser.open(f"http://127.0.0.1:{port}")
            console.wait()
        except KeyboardInterrupt:
            # Both got the signal too, and stop cleanly.
            console.wait()
        finally:
            outbox.terminate()


def _free_port(url: str) -> int:
    """Return the port of a URL, or another one if a program listens on it."""
    for port in (urlsplit(url).port or 0, 0):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)) as free:
            found: int = free.getsockname()[1]
            return found
    raise MailerError("there is no free port")


def _answers(server: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until a server accepts connections; return False if it has ended."""
    while server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        time.sleep(0.1)
    return False


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
        self._read()
        before = self._mails()
        self._send("Sent it again")
        self._say(f"  {self._mails() - before} more emails: nobody gets it twice.")
        with self._database.reading() as connection:
            books = books_of(connection, self._issue_id)
        self._say("The books:")
        for line in shown.lines(books):
            self._say(line)
        if not books.balanced or books.sent != first.books.sent - 1 or self._mails() != before:
            raise MailerError("the demo did not end as expected")
        self._say(f"Serve the pages:  mailer serve -C {self._folder}")
        self._say(f"See the emails at {_OUTBOX}:  mailer outbox -C {self._folder}")
        self._say(f"Open the console at {_CONSOLE}:  mailer console --open -C {self._folder}")
        return books

    def _import(self) -> None:
        path = self._folder / "subscribers.csv"
        path.write_text(_subscribers(), encoding="utf-8")
        report = import_file(self._database, path, secret=self._database.secrets()[0], at=datetime.now(UTC))
        self._say(f"Imported {report.added} made-up subscribers from {path}.")

    def _send(self, what: str) -> Ended:
        path = editions.find_source(self._settings, "1")
        edition = editions.build(self._settings, path).arm(0)
        queued = enqueueing.enqueue(self._settings, self._database, edition, path, "", at=datetime.now(UTC))
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
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            client.request(
                "POST",
                target.path,
                body="List-Unsubscribe=One-Click",
                headers={"Content-Type": "application/x-www-form-urlencoded"},
            )
            status = client.getresponse().status
            client.close()
        if status != 200:
            raise MailerError(f"the one-click unsubscribe returned status {status}")
        self._say(f"{_LEAVES}@example.com unsubscribed with one click: HTTP {status}.")

    def _read(self) -> None:
        """Open the issue as some readers who agreed to tracking, and click in it as half of them."""
        readers = [f"reader{number}@example." for number in range(_READERS)]
        at = datetime.now(UTC)
        with self._database.transaction() as connection:
            for known in exporting.views(connection, None, after=0, limit=_SUBSCRIBERS):
                if known.address.startswith(tuple(readers)):
                    allow_tracking(connection, known.id, True, origin=Origin("page"), at=at)
        found = [self._tracked(f"reader{number}") for number in range(_READERS)]
        with _served(self._pages()) as port:
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            for number, (pixel, link) in enumerate(found):
                for path in (pixel, link) if number % 2 else (pixel,):
                    client.request("GET", path, headers={"User-Agent": _READER})
                    client.getresponse().read()
            client.close()
        self._say(f"{_READERS} readers opened it, and {_READERS // 2} clicked.")

    def _tracked(self, local: str) -> tuple[str, str]:
        """Return the paths of the pixel and of the first link in someone's message."""
        message = email.message_from_bytes(self._mail_to(local), policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        part = message.get_body(preferencelist=("html",))
        assert isinstance(part, EmailMessage)
        html = part.get_content()
        pixel, link = (re.search(rf"/{kind}/[\w./-]+", html) for kind in "oc")
        if pixel is None or link is None:
            raise MailerError(f"the message to {local} is not tracked")
        return pixel[0], link[0]

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
