"""Letters wait in the database: a relay that is away or a server that is killed delays them, no more."""

from __future__ import annotations

import asyncio
import contextlib
import email
import email.policy
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from sqlalchemy import func, select

from mailer import reports
from mailer.address import parse_address
from mailer.audience import letters
from mailer.audience.letters import LetterKind
from mailer.audience.privacy.erasing import erase
from mailer.audience.subscribers import Change, Origin, add, change_status
from mailer.config import load
from mailer.database.models import Subscriber, SubscriberStatus, WaitingLetter
from mailer.database.session import Database
from mailer.tokens import Signer
from mailer.web.letters import Post
from tests.served import Ready, served
from tests.web.conftest import SECRET, OpenSite, Site

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
JO = "jo@example.org"


@dataclass
class Server:
    """An SMTP server that answers as told, then takes everything."""

    answers: list[str] = field(default_factory=list)
    taken: list[bytes] = field(default_factory=list)

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
        async with await loop.create_server(lambda: SMTP(self, hostname="sink"), "127.0.0.1", 0) as server:
            ready(server.sockets[0].getsockname()[1])
            await server.serve_forever()


@dataclass
class Scene:
    """A database, a relay, a clock that stands, and as many posts as a test wants."""

    database: Database
    server: Server
    folder: Path
    at: datetime = START

    def post(self) -> Post:
        return Post(
            load(self.folder / "config.toml"), self.database, Signer([SECRET]),
            clock=lambda: self.at, jitter=lambda: 1.0,
        )  # fmt: skip

    def ask(self, address: str = JO, kind: LetterKind = LetterKind.CONFIRMATION) -> int:
        with self.database.transaction() as session:
            status = SubscriberStatus.PENDING if kind is LetterKind.CONFIRMATION else SubscriberStatus.ACTIVE
            added = add(
                session,
                parse_address(address),
                secret=SECRET,
                origin=Origin("form"),
                at=self.at,
                status=status,
            )
            assert added.subscriber_id is not None
            letters.put(session, added.subscriber_id, kind, at=self.at)
            return added.subscriber_id

    def waiting(self) -> int:
        with self.database.reading() as session:
            return session.scalar(select(func.count()).select_from(WaitingLetter)) or 0

    def told(self, address: str = JO) -> list[tuple[str, str]]:
        """Return what `mailer why` tells of the letters to an address."""
        with self.database.reading() as session:
            story = reports.story(session, address)
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


def test_refused_for_now_it_waits_longer_each_time_under_one_message_id(scene: Scene) -> None:
    scene.ask()
    scene.server.answers = ["451 4.7.1 Greylisted", "451 4.7.1 Greylisted"]
    scene.post().deliver()
    assert scene.told() == [("confirmation", "letter waits, 451 4.7.1 Greylisted")]
    for wait, taken in ((timedelta(seconds=59), 0), (timedelta(seconds=1), 0), (timedelta(seconds=119), 0)):
        scene.at += wait
        scene.post().deliver()
        assert len(scene.server.taken) == taken
    assert scene.server.answers == []
    scene.at += timedelta(seconds=1)
    scene.post().deliver()
    assert len(scene.server.taken) == 1
    assert scene.waiting() == 0


def test_refused_for_good_it_is_given_up_and_can_be_asked_for_again(scene: Scene) -> None:
    person = scene.ask()
    scene.server.answers = ["550 5.1.1 No such user"]
    scene.post().deliver()
    assert scene.waiting() == 0
    with scene.database.reading() as session:
        since = scene.at - timedelta(hours=24)
        assert not letters.asked_since(session, person, LetterKind.CONFIRMATION, since=since)
        # A stranger may have typed the address: nobody is suppressed for it.
        assert session.scalar(select(Subscriber.status)) == "pending"
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
    with scene.database.transaction() as session:
        assert len(letters.claim(session, limit=5, at=scene.at, hold=timedelta(minutes=5))) == 1
    scene.post().deliver()
    assert scene.server.taken == []
    # Whoever held it was killed: it is sent after all.
    scene.at += timedelta(minutes=5)
    scene.post().deliver()
    assert len(scene.server.taken) == 1


def _erased(scene: Scene, person: int) -> None:
    with scene.database.transaction() as session:
        erase(session, parse_address(JO), secret=SECRET, at=scene.at)


def _confirmed(scene: Scene, person: int) -> None:
    change = Change(person, Origin("form"), scene.at)
    with scene.database.transaction() as session:
        change_status(session, person, SubscriberStatus.ACTIVE, origin=change.origin, at=scene.at)


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


@pytest.mark.parametrize("config", [True, False])
def test_welcome_comes_once_to_who_has_confirmed(open_site: OpenSite, config: bool) -> None:
    with open_site(welcome=config) as site:
        site.client.post("/subscribe", data={"email": JO, "name": "Jo", "website": ""})
        (letter,) = site.letters(1)
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
        (True, {"confirm": "yes"}, ["You have left My newsletter"]),
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
        with site.database.reading() as session:
            subscriber = session.scalars(select(Subscriber.id)).one()
        site.client.post(f"/u/{site.link(subscriber)}", data={"confirm": "yes"}, headers=german)
        site.letters(3)
    assert subjects(site) == [
        "Bitte best\u00e4tigen Sie: My newsletter",
        "Sie haben My newsletter abbestellt",
        "Willkommen bei My newsletter",
    ]


def subjects(site: Site) -> list[str]:
    with site.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(WaitingLetter)) == 0
    found = site.outbox / "new"
    mails = [
        email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in found.glob("*")
    ]
    return sorted(str(mail["Subject"]) for mail in mails)
