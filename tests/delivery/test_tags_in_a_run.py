"""A run reads tags only if a template asks for them: each claim would cost a round trip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import insert

from mailer.database.engine import Database
from mailer.database.tables import SubscriberTag
from mailer.rendering.edition import Edition
from tests.database.statements import statements
from tests.delivery.scene import EDITION, queued, recipients, run

PEOPLE = 60
ASKED = "{% if 'vip' in subscriber.tags %}For you, first.{% endif %}"


@pytest.mark.parametrize(
    ("edition", "asks"),
    [
        (EDITION, False),
        (replace(EDITION, subject=f"Hello {ASKED}"), True),
        (replace(EDITION, text=f"{EDITION.text}{ASKED}"), True),
        (replace(EDITION, html=f"{EDITION.html}{ASKED}"), True),
    ],
    ids=["nowhere", "subject", "text", "html"],
)
def test_tags_are_read_if_and_only_if_a_template_uses_them(
    database: Database, tmp_path: Path, edition: Edition, asks: bool
) -> None:
    issue = queued(database, PEOPLE)
    with database.transaction() as connection:
        connection.execute(insert(SubscriberTag).values(subscriber_id=PEOPLE, tag="vip"))
    with statements(database) as said:
        assert run(database, issue, tmp_path / "out", edition=edition).books.sent == PEOPLE
    assert any("subscriber_tags" in statement for statement, _ in said) is asks
    assert len(recipients(tmp_path / "out")) == PEOPLE
    got = [
        path for path in (tmp_path / "out").rglob("*") if path.is_file() and b"first." in path.read_bytes()
    ]
    assert len(got) == asks
