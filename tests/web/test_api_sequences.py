"""Subscribers enter a sequence through the API: active ones, and each once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import func, select

from mailer.api_tokens import Scope
from mailer.config import Sequence
from mailer.database.tables import SequenceMember
from mailer.delivery.sequences import storing
from tests.delivery.steps import NAME, step
from tests.web.conftest import AT, OpenSite
from tests.web.test_api_issues import Client

PATH = f"/sequences/{NAME}/members"


@pytest.fixture
def api(open_site: OpenSite) -> Iterator[Client]:
    with open_site() as opened:
        with opened.database.transaction() as connection:
            storing.apply(connection, NAME, Sequence(trigger="api"), [step("1")], at=AT)
        yield Client(opened, Scope.WRITE)


def members(api: Client) -> int:
    with api.site.database.reading() as connection:
        return connection.scalar(select(func.count()).select_from(SequenceMember)) or 0


def test_active_subscriber_enters_once(api: Client) -> None:
    api.site.subscribe()
    entered = api("POST", PATH, json={"address": "Jo@Example.org"})
    assert (entered.status_code, entered.json()["sequence"]) == (201, NAME)
    again = api("POST", PATH, json={"address": "jo@example.org"})
    assert (again.status_code, "was in welcome before" in again.json()["detail"]) == (409, True)
    assert members(api) == 1


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (PATH, {"address": "nobody@example.org"}, 409),
        (PATH, {"address": "not an address"}, 422),
        (PATH, {}, 422),
        ("/sequences/other/members", {"address": "jo@example.org"}, 404),
    ],
)
def test_mistakes_change_nothing(api: Client, path: str, body: dict[str, str], status: int) -> None:
    api.site.subscribe()
    assert (api("POST", path, json=body).status_code, members(api)) == (status, 0)


def test_token_needs_the_scope_to_change_subscribers(api: Client) -> None:
    api.site.subscribe()
    reader = Client(api.site, Scope.READ)
    assert (reader("POST", PATH, json={"address": "jo@example.org"}).status_code, members(api)) == (403, 0)
