"""Downloads: who gets them, what the others see, and what is left of the files on the disk."""

from __future__ import annotations

import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TextIO

import httpx
import pytest
from sqlalchemy import Connection
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mailer.console import sessions, users
from mailer.console.desk import Change, Desk
from mailer.console.downloads import download
from mailer.console.guard import VISITOR
from mailer.console.users import Role
from mailer.database.engine import Database
from mailer.errors import StorageError
from mailer.tokens import Signer
from tests.console.browsing import stored
from tests.console.conftest import AGENT, Running
from tests.console.test_desk import visit
from tests.end_to_end.newsletter import Folder
from tests.web.conftest import NO_TLS, serving

MB = 1024 * 1024
AT = datetime.now(UTC)


@pytest.fixture(scope="module")
def reader(console: Running) -> str:
    """The cookie of a person who may only read."""
    with stored(console) as connection:
        user, _ = users.add_user(connection, "Ana", Role.READER, None, email="ana@example.org", at=AT)
        secret = sessions.open_session(connection, user.id, AGENT, at=AT, lifetime=timedelta(hours=1))
    return f"mailer-{console.port}={secret}"


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/people.csv?issue=none&group=sent", 404, "No issue &#39;none&#39; was ever queued"),
        ("/people.csv?issue=none&group=%3Cb%3E", 404, "no group of people called &#39;&lt;b&gt;&#39;"),
        ("/links.csv?issue=none", 404, "No issue &#39;none&#39; was ever queued"),
        ("/export.csv?where=plan%20%3D", 400, "column"),
    ],
)  # fmt: skip
def test_refusal_is_a_page(console: Running, path: str, status: int, said: str) -> None:
    with console.client() as client:
        answer = client.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    assert "content-disposition" not in answer.headers
    assert "This cannot be downloaded" in answer.text
    assert said in answer.text.replace("\\u0026", "&").replace("&amp;", "&")


@pytest.mark.parametrize("path", ["/export.csv", "/people.csv?issue=001-short&group=sent"])
def test_reader_is_refused_on_a_page(console: Running, reader: str, path: str) -> None:
    with console.anyone(cookie=reader) as client:
        answer = client.get(path)
    assert answer.status_code == 403
    assert "This cannot be downloaded" in answer.text
    assert "yours is" in answer.text
    assert "@example.com" not in answer.text


class Site:
    """One download, and the folder for its temporary files."""

    def __init__(self, desk: Desk, url: str, folder: Path) -> None:
        self.desk = desk
        self.url = url
        self.folder = folder
        self.write: Callable[[TextIO], object] = lambda target: None

    def left(self) -> list[Path]:
        """Return what is left of the files; a response may end a moment before its file is removed."""
        deadline = time.monotonic() + 10
        while (found := list(self.folder.iterdir())) and time.monotonic() < deadline:
            time.sleep(0.02)
        return found


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    folder = Folder(tmp_path / "news")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    with Database("sqlite:///subscribers.db", folder=folder.path) as database:
        database.open()
        desk = Desk(folder.path / "config.toml", database, Signer(database.secrets()))
        who = visit(desk, Role.ADMIN)
        made = Site(desk, "", tmp_path / "temporary")

        async def answer(request: Request) -> Response:
            request.scope[VISITOR] = who.visitor

            def write(connection: Connection, target: TextIO) -> None:
                made.write(target)

            return await download(desk, request, Change("export"), "people.csv", write)

        with serving(Starlette(routes=[Route("/", answer)])) as made.url:
            yield made


def client() -> httpx.Client:
    return httpx.Client(headers={"user-agent": "browser"}, verify=NO_TLS)


def large(target: TextIO) -> None:
    for _ in range(40):
        target.write("x" * MB)


def test_large_download_needs_little_memory_and_leaves_nothing(site: Site) -> None:
    site.write = large
    tracemalloc.start()
    try:
        with client() as browser, browser.stream("GET", site.url) as answer:
            assert answer.headers["content-disposition"] == 'attachment; filename="people.csv"'
            assert list(site.folder.iterdir())
            assert sum(len(part) for part in answer.iter_bytes()) == 40 * MB
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * MB
    assert site.left() == []


def test_abandoned_download_leaves_nothing(site: Site) -> None:
    site.write = large
    with client() as browser, browser.stream("GET", site.url) as answer:
        next(answer.iter_raw())
    assert site.left() == []


def test_failed_download_leaves_nothing_and_is_not_recorded(site: Site) -> None:
    def failing(target: TextIO) -> None:
        target.write("half")
        raise StorageError("the disk is full")

    site.write = failing
    with client() as browser:
        assert browser.get(site.url).status_code == 500
    assert site.left() == []
    from mailer.console.audit import entries

    with site.desk.database.reading() as connection:
        assert entries(connection) == []
