"""Every change checks the session and the role again, and is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pyotp
import pytest
from sqlalchemy import update

from mailer.address import parse_address
from mailer.audience.counting import status_counts
from mailer.audience.subscribers import add
from mailer.audience.transitions import Origin
from mailer.console import sessions, users
from mailer.console.audit import entries
from mailer.console.desk import Change, Desk, Visit
from mailer.console.users import Role
from mailer.database.engine import Database
from mailer.database.tables import ConsoleUser, SubscriberStatus
from mailer.errors import RefusedError, SourceError
from mailer.tokens import Signer
from tests.end_to_end.newsletter import Folder

AT = datetime.now(UTC)
PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = Folder(tmp_path_factory.mktemp("desk") / "news")
    with Database("sqlite:///subscribers.db", folder=folder.path) as database:
        database.open()
        yield Desk(folder.path / "config.toml", database, Signer(database.secrets()))


def visit(desk: Desk, role: Role) -> Visit:
    """Log a new user of a role in."""
    with desk.database.transaction() as connection:
        count = len(users.users(connection))
        user, _ = users.add_user(connection, f"{role}-{count}", role, PASSWORD, at=AT)
        secret = sessions.open_session(connection, user.id, "browser", at=AT, lifetime=timedelta(hours=1))
        found = sessions.visitor_of(connection, sessions.digest(secret), "browser", at=AT)
        assert found is not None
    return Visit(found, "browser")


def change(desk: Desk, who: Visit, needed: Role) -> None:
    asyncio.run(desk.change(who, needed, Change("test"), lambda connection: None))


@pytest.mark.parametrize("needed", list(Role))
@pytest.mark.parametrize("role", list(Role))
def test_role_is_checked_for_every_change(desk: Desk, role: Role, needed: Role) -> None:
    who = visit(desk, role)
    if list(Role).index(role) >= list(Role).index(needed):
        change(desk, who, needed)
        asyncio.run(desk.act(who, needed, Change("test"), lambda: None))
        return
    done: list[bool] = []
    for attempt in (
        desk.change(who, needed, Change("test"), lambda connection: done.append(True)),
        desk.act(who, needed, Change("test"), lambda: done.append(True)),
    ):
        with pytest.raises(RefusedError, match=f"needs the role '{needed}'"):
            asyncio.run(attempt)
    assert done == []


def test_page_that_is_still_open_loses_its_rights_with_the_session_or_the_role(desk: Desk) -> None:
    who = visit(desk, Role.SENDER)
    with desk.database.transaction() as connection:
        renamed = update(ConsoleUser).where(ConsoleUser.c.name == who.visitor.name)
        connection.execute(renamed.values(role=Role.READER.value))
    with pytest.raises(RefusedError, match="yours is 'reader'"):
        change(desk, who, Role.SENDER)
    with desk.database.transaction() as connection:
        sessions.close_session(connection, who.visitor.digest)
    with pytest.raises(RefusedError, match="logged out"):
        change(desk, who, Role.READER)


def test_change_and_its_entry_are_one_transaction(desk: Desk) -> None:
    who = visit(desk, Role.ADMIN)

    def fails(connection: object) -> None:
        raise SourceError("no")

    with pytest.raises(SourceError):
        asyncio.run(desk.change(who, Role.ADMIN, Change("failing"), fails))
    asyncio.run(
        desk.change(
            who,
            Role.ADMIN,
            Change("subscriber.add", "1", {"after": "active"}),
            lambda connection: add(
                connection,
                parse_address("ana@example.org"),
                secret=desk.database.secrets()[0],
                origin=Origin("command"),
                at=AT,
            ),
        )
    )
    with desk.database.reading() as connection:
        latest = entries(connection, limit=1)[0]
        assert (latest.who, latest.act, latest.about) == (who.visitor.name, "subscriber.add", "1")
        assert latest.details == {"after": "active"}
        assert entries(connection, act="failing") == []
        assert status_counts(connection) == {SubscriberStatus.ACTIVE: 1}


def test_session_ends_by_itself_and_belongs_to_one_browser(desk: Desk) -> None:
    who = visit(desk, Role.READER)
    with desk.database.reading() as connection:
        assert sessions.visitor_of(connection, who.visitor.digest, "another", at=AT) is None
        later = AT + timedelta(hours=1)
        assert sessions.visitor_of(connection, who.visitor.digest, "browser", at=later) is None


def test_link_is_good_for_one_login_within_fifteen_minutes(desk: Desk) -> None:
    hour = timedelta(hours=1)
    with desk.database.transaction() as connection:
        fresh, old = (sessions.make_link(connection, at=AT) for _ in range(2))
        late = AT + timedelta(minutes=15)
        assert sessions.use_link(connection, old, "browser", at=late, lifetime=hour) is None
        secret = sessions.use_link(connection, fresh, "browser", at=AT, lifetime=hour)
        assert secret is not None
        assert sessions.use_link(connection, fresh, "browser", at=AT, lifetime=hour) is None
        # A session is no link, and a link is no session.
        assert sessions.use_link(connection, secret, "browser", at=AT, lifetime=hour) is None
        assert sessions.visitor_of(connection, sessions.digest(old), "browser", at=AT) is None


def test_code_works_once_and_within_its_minute(desk: Desk) -> None:
    with desk.database.transaction() as connection:
        user, secret = users.add_user(connection, "Ioana", Role.READER, PASSWORD, at=AT)
        code = pyotp.TOTP(secret).at(AT)
        late = AT + timedelta(minutes=2)
        assert users.log_in(connection, "Ioana", PASSWORD, code, at=late) is None
        assert users.log_in(connection, "Ioana", "another password", code, at=AT) is None
        assert users.log_in(connection, "ioana", PASSWORD, code, at=AT) is None
        assert users.log_in(connection, "Ioana", PASSWORD, "", at=AT) is None
        assert users.log_in(connection, "Ioana", PASSWORD, code, at=AT) == user
        assert users.log_in(connection, "Ioana", PASSWORD, code, at=AT) is None


@pytest.mark.parametrize("name", ["", " ", "a" * 65, "a\nb", users.LOCAL_NAME])
def test_user_without_a_proper_name_is_refused(desk: Desk, name: str) -> None:
    with desk.database.transaction() as connection, pytest.raises(SourceError, match="a user's name"):
        users.add_user(connection, name, Role.READER, PASSWORD, at=AT)


@pytest.mark.parametrize("password", ["", "short", "a" * 257])
def test_weak_or_endless_password_is_refused(desk: Desk, password: str) -> None:
    with desk.database.transaction() as connection, pytest.raises(SourceError, match="a password has"):
        users.add_user(connection, "Dan", Role.READER, password, at=AT)


def test_export_search_is_a_segment_whatever_is_typed() -> None:
    from mailer.audience.segments import parse_segment
    from mailer.console.subscribers import segment_of

    for typed in ('"', "\\", '") or (email ~ "', "ana", "'; DROP TABLE subscribers", "\x00"):
        written = segment_of({"q": typed, "where": "tag:vip", "status": "active"})
        if "\x00" not in typed:
            assert parse_segment(written, {}) is not None
    assert segment_of({"q": "", "where": "", "status": "nonsense"}) == ""
