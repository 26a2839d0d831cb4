"""Letters wait in the database: a relay that is away or a server that is killed delays them, no more."""

from __future__ import annotations

import asyncio
import contextlib
import email
import email.policy
import re
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from sqlalchemy import event, func, select
from sqlalchemy.exc import (
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    PendingRollbackError,
    ProgrammingError,
    ResourceClosedError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from mailer.address import parse_address
from mailer.audience.ledger import change_status
from mailer.audience.privacy.erasing import erase
from mailer.audience.subscribers import add
from mailer.audience.transitions import Origin, SubscriberRequest
from mailer.config import load
from mailer.database.engine import Database
from mailer.database.tables import Subscriber, SubscriberStatus, WaitingLetter
from mailer.delivery import letters
from mailer.delivery.latencies import ACCEPT, CONNECT, REPLY, histograms
from mailer.delivery.letter_sender import LetterSender
from mailer.delivery.letters import LetterKind
from mailer.errors import UnavailableError
from mailer.reports import history
from mailer.tokens import Signer
from tests.served import Ready, served
from tests.web.conftest import SECRET, OpenSite, Site

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
JO = "jo@example.org"


@dataclass
class Server:
    """An SMTP server that answers as told, then takes everything."""

    answers: list[str] = field(default_factory=list)
    connections: int = 0
    taken: list[bytes] = field(default_factory=list)

    def connected(self) -> SMTP:
        self.connections += 1
        return SMTP(self, hostname="sink")

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        if self.answers and (answer := self.answers.pop(0)):
            return answer
        assert isinstance(envelope.content, bytes)
        self.taken.append(envelope.content)
        return "250 2.0.0 taken"

    async def serve(self, ready: Ready) -> None:
        loop = asyncio.get_running_loop()
        async with await loop.create_server(self.connected, "127.0.0.1", 0) as server:
            ready(server.sockets[0].getsockname()[1])
            await server.serve_forever()


@dataclass
class Scene:
    """A database, a relay, a stopped clock, and any number of letter senders."""

    database: Database
    server: Server
    folder: Path
    at: datetime = START

    def post(self) -> LetterSender:
        return LetterSender(
            load(self.folder / "config.toml"), self.database, Signer([SECRET]),
            clock=lambda: self.at, jitter=lambda: 1.0,
        )  # fmt: skip

    def ask(self, address: str = JO, kind: LetterKind = LetterKind.CONFIRMATION) -> int:
        with self.database.transaction() as connection:
            status = SubscriberStatus.PENDING if kind is LetterKind.CONFIRMATION else SubscriberStatus.ACTIVE
            added = add(
                connection,
                parse_address(address),
                secret=SECRET,
                origin=Origin("form"),
                at=self.at,
                status=status,
            )
            assert added.subscriber_id is not None
            letters.put(connection, added.subscriber_id, kind, at=self.at)
            return added.subscriber_id

    def waiting(self) -> int:
        with self.database.reading() as connection:
            return connection.scalar(select(func.count()).select_from(WaitingLetter)) or 0

    def told(self, address: str = JO) -> list[tuple[str, str]]:
        """Return what `mailer why` tells of the letters to an address."""
        with self.database.reading() as connection:
            story = history.story(connection, address)
        assert story is not None
        return [(one.what, one.text) for one in story.happenings if one.what != "status"]

    def subjects(self) -> list[str]:
        parsed = [email.message_from_bytes(raw, policy=email.policy.default) for raw in self.server.taken]
        return [str(one["Subject"]) for one in parsed]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    server = Server()
    with served(server.serve) as port:
        templates = Path(__file__).parents[2] / "email_templates"
        (tmp_path / "config.toml").write_text(
            f'paths.templates = "{templates}"\n[newsletter]\nname = "The Weekly"\n'
            f'[relays.sink]\nhost = "127.0.0.1"\nport = {port}\nsecurity = "plain"\n'
        )
        database = Database("sqlite:///subscribers.db", folder=tmp_path)
        database.open()
        yield Scene(database, server, tmp_path)
        database.close()


def test_letter_leaves_once_and_is_forgotten(scene: Scene) -> None:
    scene.ask()
    post = scene.post()
    post.deliver()
    post.deliver()
    assert scene.subjects() == ["Please confirm: The Weekly"]
    assert scene.waiting() == 0
    assert scene.told() == [("confirmation", "letter sent, 250 2.0.0 taken")]


def test_times_of_a_letter_count_from_when_it_was_asked_for(scene: Scene) -> None:
    scene.server.answers = ["451 4.7.1 Greylisted"]
    scene.ask()
    for _ in range(2):
        scene.post().deliver()
        scene.at += timedelta(minutes=20)
    with scene.database.reading() as connection:
        (accepted,) = histograms(connection, ACCEPT)
        replies = {one.kind: one.cumulative[-1][1] for one in histograms(connection, REPLY)}
        (connects,) = histograms(connection, CONNECT)
    assert (accepted.kind, accepted.sum_seconds) == ("confirmation", 20 * 60.0)
    assert replies == {"accepted": 1, "grey": 1}
    assert (connects.relay, connects.cumulative[-1][1]) == ("sink", 2)


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        ("451 4.3.0 Try again later", (60, 120)),
        # Where the judge knows better, its word counts, as for an issue.
        ("451 4.7.1 Greylisted", (600, 600)),
        ("451 4.7.1 Greylisted, retry in 3 minutes", (180, 180)),
    ],
)
def test_refused_for_now_it_waits_longer_each_time_under_one_message_id(
    scene: Scene, answer: str, seconds: tuple[int, int]
) -> None:
    scene.ask()
    scene.server.answers = [answer, answer]
    scene.post().deliver()
    assert scene.told() == [("confirmation", f"letter waits, {answer}")]
    first, second = seconds
    for wait, left in ((first - 1, 1), (1, 0), (second - 1, 0)):
        scene.at += timedelta(seconds=wait)
        scene.post().deliver()
        assert (len(scene.server.answers), len(scene.server.taken)) == (left, 0)
    scene.at += timedelta(seconds=1)
    scene.post().deliver()
    assert len(scene.server.taken) == 1
    assert scene.waiting() == 0


def test_letter_refused_permanently_is_given_up_and_can_be_requested_again(scene: Scene) -> None:
    person = scene.ask()
    scene.server.answers = ["550 5.1.1 No such user"]
    scene.post().deliver()
    assert scene.waiting() == 0
    with scene.database.reading() as connection:
        since = scene.at - timedelta(hours=24)
        assert not letters.asked_since(connection, person, LetterKind.CONFIRMATION, since=since)
        # A stranger may have typed the address: nobody is suppressed for it.
        assert connection.scalar(select(Subscriber.c.status)) == "pending"
    assert scene.told() == [("no confirmation", "letter given up, 550 5.1.1 No such user")]


def test_relay_that_is_away_loses_nothing_until_days_have_passed(scene: Scene) -> None:
    path = scene.folder / "config.toml"
    text = path.read_text()
    path.write_text(re.sub(r"port = \d+", "port = 1", text))
    scene.ask()
    scene.post().deliver()
    assert scene.waiting() == 1
    scene.at += timedelta(hours=30)
    scene.post().deliver()
    assert scene.waiting() == 1
    path.write_text(text)
    scene.at += timedelta(hours=7)
    scene.post().deliver()
    assert scene.waiting() == 0
    assert len(scene.server.taken) == 1


def test_two_posts_send_a_letter_once(scene: Scene) -> None:
    scene.ask()
    with scene.database.transaction() as connection:
        assert len(letters.claim(connection, limit=5, at=scene.at, hold=timedelta(minutes=5))) == 1
    scene.post().deliver()
    assert scene.server.taken == []
    # Whoever held it was killed: it is sent after all.
    scene.at += timedelta(minutes=5)
    scene.post().deliver()
    assert len(scene.server.taken) == 1


def _erased(scene: Scene, person: int) -> None:
    with scene.database.transaction() as connection:
        erase(connection, parse_address(JO), secret=SECRET, at=scene.at)


def _confirmed(scene: Scene, person: int) -> None:
    change = SubscriberRequest(person, Origin("form"), scene.at)
    with scene.database.transaction() as connection:
        change_status(connection, person, SubscriberStatus.ACTIVE, origin=change.origin, at=scene.at)


@pytest.mark.parametrize("happened", [_erased, _confirmed])
def test_letter_that_nobody_needs_any_more_is_dropped(
    scene: Scene, happened: Callable[[Scene, int], None]
) -> None:
    happened(scene, scene.ask())
    scene.post().deliver()
    assert scene.server.taken == []
    assert scene.waiting() == 0


def test_what_waits_at_the_start_is_sent_without_a_call(scene: Scene) -> None:
    scene.ask()
    post = scene.post()
    post.start()
    with contextlib.closing(post):
        while scene.waiting():
            pass
    assert len(scene.server.taken) == 1


@contextlib.contextmanager
def failing(database: Database, error: Exception, times: int) -> Iterator[list[str]]:
    """Let that many statements of other threads about letters fail; give the list of those that did."""
    failed: list[str] = []

    def fail(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        ours = threading.current_thread() is not threading.main_thread()
        if ours and "letters" in statement and len(failed) < times:
            failed.append(statement)
            raise error

    event.listen(database.engine, "before_cursor_execute", fail)
    try:
        yield failed
    finally:
        event.remove(database.engine, "before_cursor_execute", fail)


_CAUSE = Exception("the server closed the connection")


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("SELECT", {}, _CAUSE),
        InterfaceError("SELECT", {}, _CAUSE),
        InternalError("SELECT", {}, _CAUSE),
        ProgrammingError("SELECT", {}, _CAUSE),
        IntegrityError("UPDATE", {}, _CAUSE),
        PendingRollbackError("invalid transaction"),
        ResourceClosedError("the connection is closed"),
        PoolTimeoutError("no connection in the pool"),
        sqlite3.ProgrammingError("Cannot operate on a closed database"),
        OSError(28, "No space left on device"),
        RuntimeError("anything else"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("times", [1, 5])
def test_thread_outlives_what_the_database_says(scene: Scene, error: Exception, times: int) -> None:
    scene.ask()
    sender = LetterSender(
        load(scene.folder / "config.toml"), scene.database, Signer([SECRET]),
        clock=lambda: scene.at, look_seconds=0.01,
    )  # fmt: skip
    with failing(scene.database, error, times) as failed:
        sender.start()
        with contextlib.closing(sender):
            # What cannot be settled runs out of its claim.
            until = time.monotonic() + 30
            while scene.waiting() and time.monotonic() < until:
                scene.at += timedelta(minutes=20)
                time.sleep(0.01)
    assert len(failed) == times
    assert set(scene.subjects()) == {"Please confirm: The Weekly"}
    assert scene.waiting() == 0


def test_letter_that_cannot_be_composed_keeps_no_other_one_waiting(scene: Scene) -> None:
    templates = scene.folder / "templates"
    shutil.copytree(Path(__file__).parents[2] / "email_templates", templates)
    (templates / "letters" / "welcome.md").write_text("---\ntitle: Hi\n---\n{{ subscriber.name | nosuch }}\n")
    path = scene.folder / "config.toml"
    path.write_text(re.sub(r'templates = ".*"', f'templates = "{templates}"', path.read_text()))
    scene.ask(kind=LetterKind.WELCOME)
    scene.ask("bo@example.org")
    scene.post().deliver()
    assert scene.subjects() == ["Please confirm: The Weekly"]
    assert scene.waiting() == 1
    ((kind, said),) = scene.told()
    assert (kind, said.startswith("letter waits, ")) == ("welcome", True)


def test_fault_of_our_own_makes_letters_wait_and_says_why(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.ask()
    scene.server.answers = ["550 5.7.26 This mail is unauthenticated"]
    scene.post().deliver()
    assert scene.waiting() == 1
    assert "letters wait: the receiving server refuses our configuration: 550 5.7.26" in caplog.text
    scene.post().deliver()
    assert scene.server.taken == []
    scene.at += timedelta(minutes=1)
    scene.post().deliver()
    assert len(scene.server.taken) == 1


def test_letters_share_the_connections_that_the_relay_allows(scene: Scene) -> None:
    path = scene.folder / "config.toml"
    path.write_text(path.read_text() + "connections = 2\n")
    for n in range(30):
        scene.ask(f"s{n}@example.org")
    scene.post().deliver()
    assert len(scene.server.taken) == 30
    assert scene.server.connections <= 2


@pytest.mark.parametrize("config", [True, False])
def test_welcome_comes_once_to_who_has_confirmed(open_site: OpenSite, config: bool) -> None:
    with open_site(welcome=config) as site:
        site.client.post("/subscribe", data={"email": JO, "name": "Win https://win.example", "website": ""})
        (letter,) = site.letters(1)
        assert letter["To"] == JO
        assert "win.example" not in letter.as_string()
        body = letter.get_body(("plain",))
        assert body is not None
        found = re.search(r"https://news\.example\.org(/confirm/\S+)", body.get_content())
        assert found is not None
        for _ in range(2):
            assert site.client.post(found[1], data={"confirm": "yes"}).status_code == 200
        if config:
            site.letters(2)
    assert subjects(site) == [
        "Please confirm: My newsletter",
        *(["Welcome to My newsletter"] if config else []),
    ]


@pytest.mark.parametrize(
    ("goodbye", "data", "letters_sent"),
    [
        (True, {"confirm": "yes"}, ["You have unsubscribed from My newsletter"]),
        (True, {"List-Unsubscribe": "One-Click"}, []),
        (False, {"confirm": "yes"}, []),
    ],
)
def test_goodbye_only_where_wanted_and_never_after_one_click(
    open_site: OpenSite, goodbye: bool, data: dict[str, str], letters_sent: list[str]
) -> None:
    with open_site(goodbye=goodbye) as site:
        link = site.link(site.subscribe())
        for _ in range(2):
            assert site.client.post(f"/u/{link}", data=data).status_code == 200
        site.letters(len(letters_sent))
    assert subjects(site) == letters_sent


def test_letters_are_in_the_language_that_the_page_was_in(open_site: OpenSite) -> None:
    german = {"accept-language": "de-AT,de;q=0.8,en;q=0.5"}
    with open_site(welcome=True, goodbye=True) as site:
        site.client.post("/subscribe", data={"email": JO, "name": "Jo"}, headers=german)
        (letter,) = site.letters(1)
        body = letter.get_body(("plain",))
        assert body is not None
        found = re.search(r"https://news\.example\.org(/confirm/\S+)", body.get_content())
        assert found is not None
        site.client.post(found[1], data={"confirm": "yes"}, headers=german)
        site.letters(2)
        with site.database.reading() as connection:
            subscriber = connection.scalars(select(Subscriber.c.id)).one()
        site.client.post(f"/u/{site.link(subscriber)}", data={"confirm": "yes"}, headers=german)
        site.letters(3)
    assert subjects(site) == [
        "Bitte best\u00e4tigen Sie: My newsletter",
        "Sie haben My newsletter abbestellt",
        "Willkommen bei My newsletter",
    ]


def subjects(site: Site) -> list[str]:
    with site.database.reading() as connection:
        assert connection.scalar(select(func.count()).select_from(WaitingLetter)) == 0
    found = site.outbox / "new"
    mails = [
        email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in found.glob("*")
    ]
    return sorted(str(mail["Subject"]) for mail in mails)


def test_result_of_a_letter_is_kept_until_the_database_is_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.ask()
    settle, left = letters.settle, 3

    def away(*arguments: Any, **options: Any) -> bool:
        nonlocal left
        left -= 1
        if left >= 0:
            raise UnavailableError("cannot execute UPDATE in a read-only transaction")
        return settle(*arguments, **options)

    monkeypatch.setattr(letters, "settle", away)
    with contextlib.suppress(UnavailableError):
        scene.post().deliver()
    assert left < 0
    assert scene.waiting() == 0
    assert scene.subjects() == ["Please confirm: The Weekly"]
