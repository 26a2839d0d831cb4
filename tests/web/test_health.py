"""`/healthz` names each task, and people get their letters once after the database was read-only."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from email.utils import parseaddr
from typing import NoReturn

import pytest
from sqlalchemy import func, select, text
from starlette.testclient import TestClient

from mailer import tasks as module
from mailer.database.engine import Database
from mailer.database.tables import SignUpRequest, WaitingLetter
from mailer.delivery import letters, sign_up
from mailer.delivery.clock import now
from mailer.delivery.letter_queue import LetterQueue
from mailer.delivery.letters import LetterKind
from mailer.errors import StorageError
from mailer.tasks import Tasks
from mailer.web import writer
from mailer.web.monitoring import create_monitoring
from mailer.web.public import subscribe
from tests.postgres import Server, configured, running
from tests.web.conftest import OpenSite, Site

TASKS = ("changes", "sign-ups", "letters")


def health(site: Site) -> tuple[int, dict[str, str]]:
    """Return the status and what is said of each task."""
    answer = site.client.get("/healthz")
    first, *lines = answer.text.splitlines()
    assert first == ("ok" if answer.status_code == 200 else "failing")
    return answer.status_code, dict(line.split(": ", 1) for line in lines)


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def failing(site: Site) -> set[str]:
    """Return the tasks that are failing."""
    return {name for name, said in health(site)[1].items() if said.startswith("failing since 20")}


def sign_up_as(site: Site, address: str) -> int:
    return site.client.post("/subscribe", data={"email": address}).status_code


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeat failed steps, and try to write again, within a fraction of a second."""
    monkeypatch.setattr(module, "LONGEST_PAUSE_SECONDS", 0.3)
    monkeypatch.setattr(writer, "_PROBE_SECONDS", 0.2)
    monkeypatch.setattr(subscribe, "_LOOK_SECONDS", 0.3)


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(
    ("name", "place", "function"),
    [("letters", LetterQueue, "idle"), ("sign-ups", sign_up, "answer_requests")],
)
@pytest.mark.parametrize("error", [StorageError("away"), RuntimeError("unexpected"), SystemExit(1)])
def test_task_that_raises_is_named_comes_back_and_makes_the_process_unhealthy_in_time(
    open_site: OpenSite,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    place: object,
    function: str,
    error: BaseException,
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(place, function, fail)
        with open_site() as site:
            wait_until(lambda: failing(site) == {name})
            assert health(site)[0] == 200
            broken.setattr(module, "LONG", timedelta(0))
            assert health(site)[0] == 503
            broken.undo()
            wait_until(lambda: health(site) == (200, dict.fromkeys(TASKS, "ok")))
            assert sign_up_as(site, "bo@example.org") == 200
            assert len(site.letters(1)) == 1


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as made:
        yield made


@pytest.mark.slow
@pytest.mark.usefixtures("soon")
def test_read_only_minute_is_shown_and_everybody_gets_one_letter_afterwards(
    open_site: OpenSite, server: Server
) -> None:
    with open_site(url=server.new_database(), look_seconds=0.3) as site:
        assert sign_up_as(site, "before@example.org") == 200
        site.letters(1)
        known = [site.subscribe(f"s{n}@example.org") for n in range(3)]
        with configured(server, "default_transaction_read_only = on"):
            with site.database.transaction() as connection:
                connection.execute(text("SET TRANSACTION READ WRITE"))
                for one in known:
                    letters.put(connection, one, LetterKind.WELCOME, at=now())
            wait_until(lambda: sign_up_as(site, "during@example.org") == 503)
            wait_until(lambda: failing(site) == set(TASKS))
        wait_until(lambda: health(site) == (200, dict.fromkeys(TASKS, "ok")))
        assert sign_up_as(site, "after@example.org") == 200
        got = site.letters(5)
        wait_until(lambda: _waiting(site) == 0)
        assert len(site.letters(5)) == 5
        expected = {f"{name}@example.org" for name in ("after", "before", "s0", "s1", "s2")}
        assert {parseaddr(one["to"])[1] for one in got} == expected


def _waiting(site: Site) -> int:
    with site.database.reading() as connection:
        return sum(
            connection.scalar(select(func.count()).select_from(table)) or 0
            for table in (WaitingLetter, SignUpRequest)
        )


def test_process_without_pages_answers_503_while_the_database_is_away(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = TestClient(create_monitoring(database, Tasks()), raise_server_exceptions=False)
    assert (client.get("/healthz").status_code, client.get("/healthz").text) == (200, "ok\n")

    def away() -> NoReturn:
        raise StorageError("the server is away")

    monkeypatch.setattr(database, "reading", away)
    for path in ("/healthz", "/api/v1/metrics"):
        answer = client.get(path, headers={"Authorization": "Bearer mlr_1_x"})
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        assert "away" not in answer.text
