"""A connection that waits long for its next message is closed: servers close idle ones in mid-command."""

from __future__ import annotations

import pytest

from mailer.database.engine import Database
from mailer.delivery.ending import Ending
from tests.delivery.test_hostile import PEOPLE, Met
from tests.smtp.scripted import Script


@pytest.mark.parametrize(("seconds", "connections"), [(2, 1), (9, 1), (12, PEOPLE), (60, PEOPLE)])
def test_connection_is_kept_for_ten_seconds(database: Database, seconds: float, connections: int) -> None:
    met = Met(database, Script(), connections=1, rate_per_second=1 / seconds)
    assert (met.ended.ending, met.books.sent, met.wrong_rows()) == (Ending.FINISHED, PEOPLE, [])
    assert met.script.connections == connections
    assert met.script.counts.get("QUIT", 0) == connections
