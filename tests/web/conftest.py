"""A site with a database and a server of its own on a loopback port."""

from __future__ import annotations

import contextlib
import email
import email.policy
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import msgspec
import pytest
import uvicorn
from sqlalchemy import insert, select
from starlette.types import ASGIApp

from mailer.address import parse_address
from mailer.audience.subscribers import add
from mailer.audience.transitions import Origin
from mailer.config import Newsletter, Paths, Settings, SignUp, Tracking, Web, load
from mailer.database.engine import Database
from mailer.database.tables import IssueState, StoredEdition, StoredIssue, Subscriber, SubscriberStatus
from mailer.delivery.letter_sender import LetterSender
from mailer.rendering.edition import Edition, InlineImage
from mailer.tokens import Signer, Subject
from mailer.web.app import create_app
from tests.databases import URL, empty_database
from tests.postgres import Server

SECRET = b"0123456789abcdef0123456789abcdef"
AT = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)


@dataclass
class Site:
    """A running site: its database, its signer, and a client that follows no redirects."""

    database: Database
    signer: Signer
    client: httpx.Client
    outbox: Path

    def letters(self, count: int) -> list[EmailMessage]:
        """Return the letters in the outbox, in no order, once there are `count` of them."""
        until = time.monotonic() + 120
        while True:
            found = list((self.outbox / "new").glob("*"))
            if len(found) >= count:
                break
            assert time.monotonic() < until, f"{len(found)} letters came instead of {count}"
            time.sleep(0.01)
        return [email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in found]

    def subscribe(self, address: str = "jo@example.org", name: str = "Jo") -> int:
        with self.database.transaction() as connection:
            added = add(
                connection, parse_address(address), secret=SECRET, origin=Origin("import"), at=AT, name=name
            )
        assert added.subscriber_id is not None
        return added.subscriber_id

    def status(self, subscriber_id: int) -> str:
        with self.database.reading() as connection:
            stored = connection.scalars(
                select(Subscriber.c.status).where(Subscriber.c.id == subscriber_id)
            ).one()
            return SubscriberStatus(stored).value

    def link(self, subscriber_id: int, issue_id: int = 0) -> str:
        return self.signer.link(Subject(issue_id, subscriber_id))

    def issue(
        self,
        edition: Edition,
        *,
        segment: str = "",
        state: str = IssueState.FINISHED,
        published_at: datetime | None = AT,
    ) -> int:
        with self.database.transaction() as connection:
            connection.execute(
                insert(StoredEdition).values(digest=edition.digest, content=edition.to_json(), created_at=AT)
            )
            return connection.execute(
                insert(StoredIssue)
                .values(
                    slug=edition.slug,
                    title=edition.title,
                    source_path=f"issues/{edition.slug}.md",
                    edition_digest=edition.digest,
                    state=state,
                    segment=segment,
                    published_at=published_at,
                    dated_at=AT,
                    created_at=AT,
                )
                .returning(StoredIssue.c.id)
            ).scalar_one()


CROCUS = InlineImage("crocus@example.org", "image/png", b"\x89PNG\r\n\x1a\n")


def edition(slug: str = "007-spring", **changed: object) -> Edition:
    """Return a small edition; keyword arguments replace its fields."""
    fields: dict[str, object] = {
        "slug": slug,
        "title": "Spring, at last",
        "subtitle": "",
        "author": "",
        "date": "2026-03-01",
        "number": 7,
        "tags": (),
        "subject": "Spring",
        "preheader": "",
        "html": (
            '<!doctype html><html lang="en"><body style="color: #222222">'
            "<p>Dear {{ subscriber.name | default('reader') }}</p>"
            '<a href="{{ urls.click }}/0">news</a> <a href="{{ urls.unsubscribe }}">leave</a>'
            '<img alt="A crocus" src="cid:crocus@example.org"></body></html>'
        ),
        "text": "Dear reader",
        "links": ("https://example.net/news?a=1&b=2", "javascript:alert(1)"),
        "images": (CROCUS,),
        "made_of": {},
        "page": (
            "<p>Dear {{ subscriber.name | default('reader') }}</p>"
            '<a href="https://example.net/news?a=1&amp;b=2">news</a> '
            '<a href="{{ urls.unsubscribe }}">leave</a>'
            f'<img alt="A crocus" src="/archive/{slug}/{CROCUS.name}">'
        ),
    }
    return Edition(**(fields | changed))  # type: ignore[arg-type]


NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients of plain HTTP: reading the certificates of all authorities takes longer than most tests."""


@contextlib.contextmanager
def serving(app: ASGIApp) -> Iterator[str]:
    """Serve an application in a thread; yield its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, server_header=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def _settings(folder: Path, more: str = "") -> Settings:
    templates = Path(__file__).parents[2] / "email_templates"
    (folder / "config.toml").write_text(
        f'web.public_url = "https://news.example.org"\npaths.templates = "{templates}"\n{more}'
    )
    return load(folder / "config.toml")


OpenSite = Callable[..., contextlib.AbstractContextManager[Site]]


@pytest.fixture
def open_site(tmp_path: Path) -> OpenSite:
    """Return what opens a site: with other secrets, another newsletter, tracking; `web` is `[web]`."""

    @contextlib.contextmanager
    def opened(
        *,
        secrets: tuple[bytes, ...] = (SECRET,),
        newsletter: Newsletter | None = None,
        tracking: Tracking | None = None,
        signup: SignUp | None = None,
        config: str = "",
        url: str = URL,
        segments: Mapping[str, str] = MappingProxyType({}),
        own: Path | None = None,
        look_seconds: float = 60.0,
        **web: Any,
    ) -> Iterator[Site]:
        database = empty_database(tmp_path) if url == URL else Database(url, folder=tmp_path)
        database.open()
        signer = Signer(secrets)
        settings = Settings(
            newsletter=newsletter or Newsletter(name="The Weekly"),
            tracking=tracking or Tracking(),
            signup=signup or SignUp(),
            segments=dict(segments),
            web=msgspec.convert({"public_url": "https://news.example.org", "welcome": False} | web, Web),
            paths=Paths(templates=own or tmp_path / "none", issues=tmp_path / "issues"),
        )
        sender = LetterSender(_settings(tmp_path, config), database, signer, look_seconds=look_seconds)
        app = create_app(database, signer, settings, letters=sender)
        with serving(app) as served, httpx.Client(base_url=served, timeout=60, verify=NO_TLS) as client:
            yield Site(database, signer, client, tmp_path / "outbox")
        database.close()

    return opened


@pytest.fixture
def site(open_site: OpenSite) -> Iterator[Site]:
    """A site with nothing in it, tracking off."""
    with open_site() as opened:
        yield opened


@pytest.fixture
def postgresql_url(postgresql: Server) -> Iterator[str]:
    """The URL of an empty PostgreSQL database."""
    with postgresql.lent_database() as url:
        yield url
