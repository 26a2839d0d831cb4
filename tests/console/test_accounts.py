"""Each user logs in with one account of the provider, and each account as one user."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from mailer.console import accounts, users
from mailer.console.accounts import Account, OtherAccountError
from mailer.console.users import Role
from mailer.database.engine import Database
from mailer.database.tables import ConsoleUser
from mailer.errors import RefusedError

AT = datetime.now(UTC)
ADDRESSES = ("mia@example.org", "dan@example.org")
NAMES = dict(zip(ADDRESSES, ("Mia", "Dan"), strict=True))
logins = st.builds(
    Account, st.sampled_from(["a", "b"]), st.sampled_from(["1", "2"]), st.sampled_from(ADDRESSES)
)
unlinkings = st.sampled_from(list(NAMES.values()))


def log_in(database: Database, account: Account) -> tuple[str, bool]:
    """Return the user's name, and whether this linked them to the account."""
    with database.transaction() as connection:
        user, linked = accounts.log_in(connection, account)
    assert user.linked
    return user.name, linked


@pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.lists(logins | unlinkings, max_size=10))
def test_user_keeps_their_account_until_it_is_unlinked(
    database: Database, steps: list[Account | str]
) -> None:
    with database.transaction() as connection:
        if not users.users(connection):
            for address, name in NAMES.items():
                users.add_user(connection, name, Role.READER, None, email=address, at=AT)
        connection.execute(update(ConsoleUser).values(issuer=None, subject=None))
    known: dict[str, tuple[str, str]] = {}
    for step in steps:
        if isinstance(step, str):
            with database.transaction() as connection:
                assert accounts.unlink(connection, step) is (step in known)
            known.pop(step, None)
            continue
        name, wanted = NAMES[step.email], (step.issuer, step.subject)
        theirs, owner = known.get(name), {account: one for one, account in known.items()}.get(wanted)
        if theirs not in (None, wanted):
            with pytest.raises(OtherAccountError, match=f"{name} has logged in with another account"):
                log_in(database, step)
        elif owner not in (None, name):
            with pytest.raises(RefusedError, match=f"belongs to the user {owner}"):
                log_in(database, step)
        else:
            assert log_in(database, step) == (name, theirs is None)
            known[name] = wanted
    with database.reading() as connection:
        assert {one.name for one in users.users(connection) if one.linked} == set(known)
