"""The page of an issue that is being sent costs the sender little, however large the issue is."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import AsyncMock, Mock, patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nicegui import Client, ui

from mailer.console import provider_counts, watching
from mailer.console.desk import Desk
from mailer.console.pace import Pace
from mailer.console.provider_counts import ProviderCounts
from mailer.console.users import Role
from mailer.console.watching import Watching
from mailer.database.engine import Database
from mailer.database.tables import DeliveryState
from mailer.delivery import control
from mailer.delivery.lock import exclusive
from mailer.errors import StorageError
from mailer.reports.progress import ProviderBooks
from mailer.tokens import Signer
from tests.console.test_desk import visit
from tests.database.statements import statements, whole_issue_searches
from tests.delivery.scene import queued
from tests.end_to_end.newsletter import Folder


@given(st.lists(st.integers(0, 100), min_size=1, max_size=20), st.integers(2, 100))
def test_page_rests_most_of_the_time(looks: list[int], rest: int) -> None:
    clock = SimpleNamespace(now=1000.0)
    kept, waited = Pace(0.5, rest, lambda: clock.now), 0.0
    for seconds in looks:
        assert kept.due
        with kept.looking():
            clock.now += seconds
        assert kept.seconds == max(0.5, rest * seconds)
        assert not kept.due
        waited += kept.seconds
        clock.now += kept.seconds - seconds
    assert sum(looks) <= waited / rest


def test_look_that_fails_is_followed_by_a_rest() -> None:
    clock = SimpleNamespace(now=1000.0)
    kept = Pace(0.5, 10, lambda: clock.now)
    with pytest.raises(ValueError, match="lost"), kept.looking():
        clock.now += 2
        raise ValueError("lost")
    assert (kept.seconds, kept.due) == (20.0, False)


def test_pages_share_one_count_and_never_take_two_at_a_time() -> None:
    clock = SimpleNamespace(now=1000.0)
    counted: list[int] = []
    under_way = 0

    async def count(issue_id: int) -> list[ProviderBooks]:
        nonlocal under_way
        under_way += 1
        counted.append(issue_id)
        await asyncio.sleep(0)
        assert under_way == 1
        under_way -= 1
        if len(counted) == 1:
            raise StorageError("the database is away")
        return [ProviderBooks(f"provider{n}", 30 - n, {DeliveryState.SENT: 30 - n}) for n in range(20)]

    async def look() -> None:
        counts = ProviderCounts(count)
        with pytest.raises(StorageError):
            await counts.newest(1)
        found = await asyncio.gather(*(counts.newest(1 + place % 2) for place in range(8)))
        assert counted == [1, 1, 2]
        assert len({id(one) for one in found}) == 2
        assert [one.name for one in found[0].providers][7:] == ["provider7", ""]
        assert found[0].providers[-1].recipients == sum(range(11, 23))
        clock.now += 4
        assert await counts.newest(1) is found[0]
        clock.now += 2
        assert await counts.newest(1) is not found[0]

    with patch.object(provider_counts, "Pace", partial(Pace, ticks=lambda: clock.now)):
        asyncio.run(look())


def test_looks_count_no_deliveries(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "news")
    clock = SimpleNamespace(now=1000.0)
    with Database("sqlite:///subscribers.db", folder=folder.path) as database:
        database.open()
        issue = queued(database, 30)
        desk = Desk(folder.path / "config.toml", database, Signer(database.secrets()))
        who = visit(desk, Role.SENDER)

        async def watch() -> list[list[str]]:
            """Return what each look at the books says, and then one at the rest."""
            found = []
            with Client(ui.page("/")) as client:
                page = Watching(desk, who, issue)
                await page.build()
                await page.look_at_rest()
                for look, seconds in ((page.look, 0.5), (page.look, 0.5), (page.look_at_rest, 5)):
                    clock.now += seconds
                    with statements(database) as said:
                        await look()
                    searches.append(len(whole_issue_searches(database, said)))
                    found.append([statement for statement, _ in said])
                with exclusive(database) as connection:
                    control.withdraw(connection, issue.id)
                await page.look()
                reload.assert_called_once()
            client.delete()
            return found

        searches: list[int] = []
        # The statistics are counted in a thread of their own, while the page goes on.
        with (
            patch.object(watching, "Pace", partial(Pace, ticks=lambda: clock.now)),
            patch.object(provider_counts, "Pace", partial(Pace, ticks=lambda: clock.now)),
            patch.object(desk, "count", AsyncMock()),
            patch.object(ui, "timer", Mock()),
            patch.object(ui.navigate, "reload") as reload,
        ):
            looks = asyncio.run(watch())
    # A look at the books reads their totals with the issue's state. The rest counts once, by provider.
    assert [len(said) for said in looks[:2]] == [1, 1]
    assert all("running_totals" in said[0] for said in looks[:2])
    assert len(looks[2]) <= 18
    assert searches == [0, 0, 1]
