"""Digests are made at their time, once, and only if there is something new."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import select

from mailer.config import Digest, Settings, load
from mailer.database.engine import Database
from mailer.database.tables import ALERT, Event, StoredIssue
from mailer.delivery import enqueueing
from mailer.errors import ConfigError
from mailer.rendering.source.new import create_issue
from mailer.review import digests
from mailer.review.digests import last_time, look
from tests.delivery.scene import subscribe
from tests.end_to_end.newsletter import Folder
from tests.review.test_feeds import FIRST, Site, rss, site

__all__ = ["site"]
# A Friday.
AT = datetime(2026, 3, 6, 8, 5, tzinfo=UTC)


@dataclass
class Scene:
    """A newsletter with one weekly digest."""

    folder: Folder
    database: Database
    site: Site
    settings: Settings
    at: datetime = AT
    said: list[str] = field(default_factory=list)

    def look(self) -> None:
        look(
            self.settings, self.database, say=self.said.append, clock=lambda: self.at,
            permitted=lambda address: True,
        )  # fmt: skip

    def change(self, **values: object) -> None:
        digest = msgspec.structs.replace(self.settings.digests["weekly"], **values)
        self.settings = msgspec.structs.replace(self.settings, digests={"weekly": digest})

    @property
    def queued(self) -> list[str]:
        with self.database.reading() as connection:
            return list(connection.scalars(select(StoredIssue.c.slug)))

    @property
    def drafts(self) -> list[str]:
        return sorted(path.name for path in (self.folder.path / "issues").glob("*.md"))[1:]


@pytest.fixture
def scene(tmp_path: Path, site: Site, database: Database) -> Scene:
    folder = Folder(
        tmp_path / "news",
        f'[digests.weekly]\nfeed = "{site.url}"\ntitle = "This week"\n'
        'days = ["fri"]\nzone = "UTC"\nsend = true\n',
    )
    subscribe(database, 3)
    site.body = rss(FIRST)
    return Scene(folder, database, site, load(folder.path / "config.toml"))


def test_digest_is_queued_once_a_week_while_something_is_new(scene: Scene) -> None:
    for _ in range(3):
        scene.look()
        scene.at += timedelta(minutes=5)
    assert scene.said == ["digest weekly: 002-this-week is queued"]
    scene.at = AT + timedelta(days=7)
    scene.look()
    scene.look()
    assert scene.said[1:] == ["digest weekly: nothing new"]
    scene.site.body = rss(FIRST.replace("https://e.org/1", "https://e.org/moved"), "<title>New</title>")
    scene.at = AT + timedelta(days=14)
    scene.look()
    assert scene.queued == ["002-this-week", "003-this-week"]
    text = (scene.folder.path / "issues" / "003-this-week.md").read_text(encoding="utf-8")
    assert text.count("## ") == 1


def test_draft_waits_for_a_person(scene: Scene) -> None:
    scene.change(send=False)
    scene.look()
    scene.look()
    assert (scene.queued, scene.drafts) == ([], ["002-this-week.md"])
    assert scene.said == ["digest weekly: 002-this-week.md is a draft"]


def test_digest_that_may_not_be_sent_is_a_draft_and_an_alert(scene: Scene) -> None:
    scene.change(to="tag:nobody")
    scene.look()
    assert (scene.queued, scene.drafts) == ([], ["002-this-week.md"])
    with scene.database.reading() as connection:
        (details,) = connection.scalars(select(Event.c.details).where(Event.c.kind == ALERT))
    assert "the digest weekly is not sent: " in details["text"]


def test_feed_that_fails_is_tried_again_within_the_hour(scene: Scene) -> None:
    scene.site.status = 500
    scene.look()
    assert (scene.said, scene.drafts) == ([], [])
    scene.site.status = 200
    scene.at += timedelta(minutes=5)
    scene.look()
    assert scene.queued == ["002-this-week"]


@pytest.mark.parametrize("place", ["enqueue", "remember"])
def test_killed_worker_sends_nothing_twice(scene: Scene, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    with monkeypatch.context() as patch:

        def die(*given: object, **named: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(*((enqueueing, place) if place == "enqueue" else (digests, place)), die)
        with pytest.raises(KeyboardInterrupt):
            scene.look()
    assert scene.queued == []
    scene.look()
    scene.look()
    assert len(scene.queued) == 1


def test_two_workers_make_one_digest(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    original, nested = create_issue, False

    def late(*given: object, **named: object) -> Path:
        nonlocal nested
        if not nested:
            nested = True
            scene.look()
        return original(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(digests, "create_issue", late)
    scene.look()
    assert (len(scene.queued), len(scene.drafts)) == (1, 1)


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2026-03-06T07:59", None),
        ("2026-03-06T08:00", "2026-03-06T08:00"),
        ("2026-03-06T08:59", "2026-03-06T08:00"),
        ("2026-03-06T09:00", None),
        ("2026-03-05T08:10", None),
    ],
)
def test_time_is_an_hour_on_its_day(at: str, expected: str | None) -> None:
    digest = Digest(feed="https://e.org/f", title="T", days=("fri",), zone="UTC")
    found = last_time(digest, at=datetime.fromisoformat(at).replace(tzinfo=UTC))
    assert (None if found is None else f"{found:%Y-%m-%dT%H:%M}") == expected


@pytest.mark.parametrize(
    "line", ['at = "8 o\'clock"', 'days = ["someday"]', 'feed = "file:///x"', "items = 0"]
)
def test_mistake_in_the_table_is_reported(tmp_path: Path, line: str) -> None:
    key = line.partition(" ")[0]
    given = {"feed": 'feed = "https://e.org/f"', "title": 'title = "T"', key: line}
    folder = Folder(tmp_path, "[digests.weekly]\n" + "\n".join(given.values()) + "\n")
    with pytest.raises(ConfigError, match=key):
        load(folder.path / "config.toml")
