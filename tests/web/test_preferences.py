"""What subscribers decide on their own page: a pause, tracking, their data, being forgotten."""

from __future__ import annotations

import json

import pytest

from mailer.audience.subscribers import history
from mailer.config import Tracking
from mailer.database.models import Subscriber
from tests.web.conftest import OpenSite, Site


def _stored(site: Site, subscriber: int) -> Subscriber:
    with site.database.reading() as session:
        stored = session.get(Subscriber, subscriber)
        assert stored is not None
        return stored


def _notes(site: Site, subscriber: int) -> list[str]:
    with site.database.reading() as session:
        return [line.note.split(" until")[0] for line in history(session, subscriber)[1:]]


def test_pause_is_set_shown_and_ended(site: Site) -> None:
    subscriber = site.subscribe()
    path = f"/p/{site.link(subscriber)}"
    answer = site.client.post(f"{path}/pause", data={"weeks": "4"})
    assert (answer.status_code, answer.headers["location"]) == (303, path)
    assert _stored(site, subscriber).paused_until is not None
    assert "No mail comes before" in site.client.get(path).text
    site.client.post(f"{path}/pause", data={"weeks": "0"})
    assert _stored(site, subscriber).paused_until is None
    assert _notes(site, subscriber) == ["paused", "pause ended"]
    assert site.status(subscriber) == "active"


@pytest.mark.parametrize("weeks", ["", "-2", "3", "9999999", "x"])
def test_other_pauses_are_refused(site: Site, weeks: str) -> None:
    subscriber = site.subscribe()
    assert site.client.post(f"/p/{site.link(subscriber)}/pause", data={"weeks": weeks}).status_code == 400
    assert _stored(site, subscriber).paused_until is None


def test_tracking_is_allowed_and_forbidden_by_the_person(open_site: OpenSite) -> None:
    with open_site(tracking=Tracking(clicks=True)) as site:
        subscriber = site.subscribe()
        path = f"/p/{site.link(subscriber)}"
        assert "You do not allow" in site.client.get(path).text
        site.client.post(f"{path}/tracking", data={"tracking": "yes"})
        assert _stored(site, subscriber).tracking_consent
        assert "You allow" in site.client.get(path).text
        site.client.post(f"{path}/tracking", data={"tracking": "no"})
        assert not _stored(site, subscriber).tracking_consent
        assert _notes(site, subscriber) == ["tracking allowed", "tracking forbidden"]


def test_tracking_is_not_asked_about_while_it_is_off(site: Site) -> None:
    assert "Tracking" not in site.client.get(f"/p/{site.link(site.subscribe())}").text


def test_data_are_given_to_who_knows_the_address(site: Site) -> None:
    subscriber = site.subscribe("jo@example.org")
    answer = site.client.post(f"/p/{site.link(subscriber)}/data", data={"email": "JO@example.org"})
    data = json.loads(answer.text)
    assert (answer.status_code, data["profile"]["address"], data["profile"]["name"]) == (
        200,
        "jo@example.org",
        "Jo",
    )
    assert [line["way"] for line in data["consents"]] == ["import"]
    assert answer.headers["content-disposition"] == 'attachment; filename="my-data.json"'
    assert answer.headers["cache-control"] == "no-store"


def test_person_is_erased_who_knows_the_address(site: Site) -> None:
    subscriber = site.subscribe("jo@example.org")
    path = f"/p/{site.link(subscriber)}"
    answer = site.client.post(f"{path}/erase", data={"email": "jo@example.org"})
    assert (answer.status_code, site.status(subscriber)) == (200, "erased")
    assert "We keep no address" in answer.text
    for page in (path, f"{path}/data", f"{path}/erase"):
        assert "We keep no address" in site.client.get(page).text


@pytest.mark.parametrize("kind", ["data", "erase"])
def test_forwarded_link_neither_tells_nor_erases(site: Site, kind: str) -> None:
    subscriber = site.subscribe("jo@example.org")
    path = f"/p/{site.link(subscriber)}/{kind}"
    for method in ("GET", "HEAD"):
        assert site.client.request(method, path).status_code == 200
    for _ in range(10):
        answer = site.client.post(path, data={"email": "someone@example.org"})
        assert (answer.status_code, "jo@example.org" in answer.text) == (403, False)
    assert "too often" in site.client.post(path, data={"email": "jo@example.org"}).text
    assert site.status(subscriber) == "active"


@pytest.mark.parametrize("kind", ["pause", "tracking", "data", "erase"])
def test_forged_links_change_nothing(site: Site, kind: str) -> None:
    assert site.client.post(f"/p/forged/{kind}", data={"weeks": "4"}).status_code == 404
