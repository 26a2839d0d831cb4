"""With `delivery.undo`, an issue sent from the console waits, and can be taken back until then."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from mailer.config import DeliverySettings, load
from mailer.console.approval import Kind, Release
from mailer.console.releasing import release
from mailer.database.engine import Database
from mailer.delivery import editions, issues, schedule
from mailer.delivery.clock import now
from tests.end_to_end.newsletter import Folder


@pytest.mark.parametrize(
    ("undo", "share", "waits"),
    [(timedelta(minutes=5), None, True), (timedelta(0), None, False), (timedelta(minutes=5), 0.01, False)],
)
def test_issue_waits_for_the_time_to_undo_it(
    tmp_path: Path, undo: timedelta, share: float | None, waits: bool
) -> None:
    folder = Folder(tmp_path / "news")
    folder.subscribe(200)
    path = folder.path / "issues" / "001-short.md"
    settings = msgspec.structs.replace(
        load(folder.path / "config.toml"), delivery=DeliverySettings(undo=undo)
    )
    edition = editions.build(settings, path)
    with Database("sqlite:///subscribers.db", folder=folder.path) as database:
        database.open()
        began = now()
        release(settings, database, path, edition, Release(Kind.SEND, "", share))
        with database.transaction() as connection:
            assert [one.slug for one in issues.issues(connection)] == ([] if waits else [edition.slug])
            planned = schedule.find(connection, edition.slug)
            assert (planned is not None) == waits
            if planned is not None:
                assert began + undo <= planned.due_at <= now() + undo
                schedule.cancel(connection, edition.slug)
                assert schedule.due(connection, at=planned.due_at) == []
