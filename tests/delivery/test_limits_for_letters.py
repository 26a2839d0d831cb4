"""On PostgreSQL, letters that are sent outside of a run keep the limits that all runs share."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, select

from mailer.address import parse_address
from mailer.audience.subscribers import add
from mailer.audience.transitions import Origin
from mailer.config import load
from mailer.database.engine import Database
from mailer.database.tables import Seat, SubscriberStatus, WaitingLetter
from mailer.delivery import letters
from mailer.delivery.clock import now, ticks
from mailer.delivery.letter_sender import LetterSender
from mailer.delivery.letters import LetterKind
from mailer.delivery.sharing import Sharing
from mailer.smtp.sharing import Grant, Wish
from mailer.tokens import Signer
from tests.connections import new_database
from tests.end_to_end.recorder import Recorder
from tests.postgres import Server

SECRET = b"a secret of thirty-two octets ..."


@pytest.fixture
def database(postgresql: Server) -> Iterator[Database]:
    with new_database(postgresql) as database:
        yield database


def letters_for(database: Database, number: int) -> None:
    with database.transaction() as connection:
        for n in range(number):
            added = add(
                connection, parse_address(f"s{n}@example.org"), secret=SECRET, origin=Origin("form"),
                at=now(), status=SubscriberStatus.PENDING,
            )  # fmt: skip
            assert added.subscriber_id is not None
            letters.put(connection, added.subscriber_id, LetterKind.CONFIRMATION, at=now())


def sender(database: Database, folder: Path, port: int, limits: str) -> LetterSender:
    templates = Path(__file__).parents[2] / "email_templates"
    (folder / "config.toml").write_text(
        f'paths.templates = "{templates}"\n[newsletter]\nname = "The Weekly"\n'
        f'[relays.sink]\nhost = "127.0.0.1"\nport = {port}\nsecurity = "plain"\n{limits}\n'
    )
    return LetterSender(load(folder / "config.toml"), database, Signer([SECRET]))


def waiting(database: Database) -> int:
    with database.reading() as connection:
        return connection.scalar(select(func.count()).select_from(WaitingLetter)) or 0


@contextmanager
def another_run(database: Database, wish: Wish) -> Iterator[list[Grant]]:
    """Hold a part of the relay's limits until the block ends, as a run of another machine does."""
    granted: list[Grant] = []

    def wishes() -> list[Wish]:
        return [replace(wish, reserved_until=max((one.reserved_until for one in granted), default=-math.inf))]

    sharing = Sharing(ticks, wishes, lambda wishes, grants: granted.extend(grants))
    ended = threading.Event()

    def ask() -> None:
        wanted = sharing.wishes()
        with database.transaction() as connection:
            found = sharing.exchange(connection, wanted)
        sharing.accept(wanted, found)

    def hold() -> None:
        while not ended.wait(0.3):
            ask()
        with database.transaction() as connection:
            sharing.leave(connection)

    ask()
    holding = threading.Thread(target=hold)
    holding.start()
    try:
        yield granted
    finally:
        ended.set()
        holding.join()


def test_letters_wait_while_another_machine_has_every_connection(database: Database, tmp_path: Path) -> None:
    letters_for(database, 3)
    with Recorder() as recorder:
        post = sender(database, tmp_path, recorder.port, "connections = 1")
        delivering = threading.Thread(target=post.deliver)
        wish = Wish(name="relay sink", most_connections=1, connections=1, connected=1)
        with another_run(database, wish):
            delivering.start()
            time.sleep(1)
            assert (recorder.total, waiting(database)) == (0, 3)
        delivering.join()
    assert (recorder.total, waiting(database)) == (3, 0)
    assert recorder.most_connections == 1
    with database.reading() as connection:
        assert connection.scalar(select(func.count()).select_from(Seat)) == 0


def test_letters_and_another_machine_keep_a_rate_together(database: Database, tmp_path: Path) -> None:
    letters_for(database, 12)
    with Recorder() as recorder:
        post = sender(database, tmp_path, recorder.port, "rate_per_second = 8")
        wish = Wish(name="relay sink", most_connections=20, per_second=8.0, connections=5)
        with another_run(database, wish) as granted:
            post.deliver()
    assert (len(recorder.times), waiting(database)) == (12, 0)
    # The other machine has every second instant.
    seconds = recorder.times[-1] - recorder.times[0]
    theirs = sum(grant.count for grant in granted)
    assert theirs > 4
    assert seconds > 2
