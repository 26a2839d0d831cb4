"""What subscribers decide on their own page: tags, a pause, tracking, their data, being forgotten."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import select

from mailer.audience.preferences import UnsubscribeReasons, standing, unsubscribe_reasons
from mailer.audience.privacy.personal_data import personal_data
from mailer.audience.subscribers import history, revise
from mailer.config import Tracking
from mailer.database.tables import Subscriber, TableRow
from tests.web.conftest import AT, OpenSite, Site

TAGS = {"events": "Invitations", "for members": "What only members get"}


def _stored(site: Site, subscriber: int) -> TableRow:
    with site.database.reading() as connection:
        return connection.execute(select(Subscriber).where(Subscriber.c.id == subscriber)).one()


def _notes(site: Site, subscriber: int) -> list[str]:
    with site.database.reading() as connection:
        return [line.note.split(" until")[0] for line in history(connection, subscriber)[1:]]


def test_pause_is_set_shown_and_ended(site: Site) -> None:
    subscriber = site.subscribe()
    path = f"/p/{site.link(subscriber)}"
    answer = site.client.post(f"{path}/pause", data={"weeks": "4"})
    assert (answer.status_code, answer.headers["location"]) == (303, path)
    assert _stored(site, subscriber).paused_until is not None
    assert "Paused: no emails until" in site.client.get(path).text
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
        assert "You have not allowed" in site.client.get(path).text
        site.client.post(f"{path}/tracking", data={"tracking": "yes"})
        assert _stored(site, subscriber).tracking_consent
        assert "You allow" in site.client.get(path).text
        site.client.post(f"{path}/tracking", data={"tracking": "no"})
        assert not _stored(site, subscriber).tracking_consent
        assert _notes(site, subscriber) == ["tracking allowed", "tracking forbidden"]
        with site.database.reading() as connection:
            told = personal_data(connection, subscriber)
        assert told is not None
        assert [(line["form"], line["wording"]) for line in told["consents"][-2:]] == [
            (
                "tracking",
                "Tracking\n"
                "You have not allowed us to record which issues and links you open.\n"
                "Allow tracking",
            ),
            ("", None),
        ]


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
    assert "Your data is deleted" in answer.text
    for page in (path, f"{path}/data", f"{path}/erase"):
        assert "We have no address" in site.client.get(page).text


def test_consent_to_tracking_is_refused_while_it_is_off(site: Site) -> None:
    subscriber = site.subscribe()
    answer = site.client.post(f"/p/{site.link(subscriber)}/tracking", data={"tracking": "yes"})
    assert (answer.status_code, _stored(site, subscriber).tracking_consent) == (409, False)
    assert _notes(site, subscriber) == []


def test_name_change_is_in_the_ledger_without_the_name(site: Site) -> None:
    subscriber = site.subscribe()
    for _ in range(2):
        site.client.post(f"/p/{site.link(subscriber, 3)}", data={"action": "name", "name": "Joan"})
    assert (_stored(site, subscriber).name, _notes(site, subscriber)) == ("Joan", ["name changed"])


def _tags(site: Site, subscriber: int) -> set[str]:
    with site.database.reading() as connection:
        person = standing(connection, subscriber)
        assert person is not None
        return set(person.tags)


def test_tags_on_offer_are_ticked_and_unticked_and_others_stay(open_site: OpenSite) -> None:
    with open_site(tags=TAGS) as site:
        subscriber = site.subscribe()
        with site.database.transaction() as connection:
            revise(connection, subscriber, at=AT, tags=["vip", "events"])
        path = f"/p/{site.link(subscriber)}"
        page = site.client.get(path).text
        assert 'name="tag:events" value="yes" checked' in page
        assert 'name="tag:for members" value="yes">' in page
        assert "vip" not in page
        site.client.post(path, data={"action": "tags", "tag:for members": "yes", "tag:admin": "yes"})
        assert _tags(site, subscriber) == {"vip", "for members"}
        site.client.post(path, data={"action": "tags", "tag:for members": "yes"})
        site.client.post(path, data={"action": "tags"})
        assert _tags(site, subscriber) == {"vip"}
        assert _notes(site, subscriber) == ["tags: +for members, -events", "tags: -for members"]


def test_tags_are_not_asked_about_when_none_is_on_offer(site: Site) -> None:
    subscriber = site.subscribe()
    path = f"/p/{site.link(subscriber)}"
    assert "What you want to receive" not in site.client.get(path).text
    site.client.post(path, data={"action": "tags", "tag:vip": "yes"})
    assert _tags(site, subscriber) == set()


def _leavings(site: Site) -> UnsubscribeReasons:
    with site.database.reading() as connection:
        return unsubscribe_reasons(connection)


@pytest.mark.parametrize(
    ("path", "fields"), [("/u/", {"confirm": "yes"}), ("/p/", {"action": "unsubscribe"})]
)
def test_reason_is_in_the_unsubscribe_line(site: Site, path: str, fields: dict[str, str]) -> None:
    subscriber = site.subscribe()
    link = f"{path}{site.link(subscriber)}"
    assert "Too many emails" in site.client.get(link).text
    site.client.post(link, data=fields | {"reason": "too-many"})
    with site.database.reading() as connection:
        [line] = history(connection, subscriber)[1:]
    assert (line.after, line.way, line.note) == ("unsubscribed", "page", "reason: too-many")
    assert _leavings(site) == UnsubscribeReasons(1, {"too-many": 1})


def test_reason_is_given_afterwards_and_only_once(site: Site) -> None:
    subscriber = site.subscribe()
    link = f"/u/{site.link(subscriber)}"
    site.client.post(link, data={"List-Unsubscribe": "One-Click", "reason": "other"})
    for reason in ("never-signed-up", "too-many"):
        assert "Thank you" in site.client.post(link, data={"confirm": "yes", "reason": reason}).text
    assert _notes(site, subscriber) == ["", "reason: never-signed-up"]
    site.client.post(f"/p/{site.link(subscriber)}", data={"action": "subscribe"})
    site.client.post(link, data={"List-Unsubscribe": "One-Click"})
    site.client.post(link, data={"confirm": "yes", "reason": "too-many"})
    counted = _leavings(site)
    assert (counted.count, counted.reasons, counted.silent) == (2, {"never-signed-up": 1, "too-many": 1}, 0)


@pytest.mark.parametrize("reason", ["", "x" * 10_000, "reason: other", "%"])
def test_other_reasons_do_not_keep_anybody_here_and_are_not_kept(site: Site, reason: str) -> None:
    subscriber = site.subscribe()
    site.client.post(f"/u/{site.link(subscriber)}", data={"confirm": "yes", "reason": reason})
    assert (site.status(subscriber), _notes(site, subscriber)) == ("unsubscribed", [""])
    assert _leavings(site).silent == 1


def test_reasons_are_those_of_the_configuration(open_site: OpenSite) -> None:
    with open_site(reasons={"price": "It costs too much"}) as site:
        subscriber = site.subscribe()
        link = f"/u/{site.link(subscriber)}"
        page = site.client.get(link).text
        assert ("It costs too much" in page, "Too many emails" in page) == (True, False)
        site.client.post(link, data={"confirm": "yes", "reason": "too-many"})
        assert _notes(site, subscriber) == [""]


def test_coming_back_ends_a_pause(site: Site) -> None:
    subscriber = site.subscribe()
    path = f"/p/{site.link(subscriber)}"
    site.client.post(f"{path}/pause", data={"weeks": "26"})
    site.client.post(path, data={"action": "unsubscribe"})
    site.client.post(path, data={"action": "subscribe"})
    assert (site.status(subscriber), _stored(site, subscriber).paused_until) == ("active", None)


@pytest.mark.parametrize("kind", ["data", "erase"])
def test_forwarded_link_neither_tells_nor_erases(site: Site, kind: str) -> None:
    subscriber = site.subscribe("jo@example.org")
    path = f"/p/{site.link(subscriber)}/{kind}"
    for method in ("GET", "HEAD"):
        assert site.client.request(method, path).status_code == 200
    for _ in range(10):
        answer = site.client.post(path, data={"email": "someone@example.org"})
        assert (answer.status_code, "jo@example.org" in answer.text) == (403, False)
    assert "Too many attempts" in site.client.post(path, data={"email": "jo@example.org"}).text
    assert site.status(subscriber) == "active"


@pytest.mark.parametrize("kind", ["pause", "tracking", "data", "erase"])
def test_forged_links_change_nothing(site: Site, kind: str) -> None:
    assert site.client.post(f"/p/forged/{kind}", data={"weeks": "4"}).status_code == 404


def test_changes_are_limited_per_person_but_unsubscribing_is_not(site: Site) -> None:
    subscriber, other = site.subscribe(), site.subscribe("al@example.org")
    path = f"/p/{site.link(subscriber)}"
    codes = [
        site.client.post(path, data={"action": "name", "name": f"Jo {number}"}).status_code
        for number in range(60)
    ]
    assert set(codes) == {200}
    refused = site.client.post(f"{path}/pause", data={"weeks": "4"}, headers={"accept-language": "de"})
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "3600")
    assert "Zu viele Anfragen" in refused.text
    assert _stored(site, subscriber).name == "Jo 59"
    assert _stored(site, subscriber).paused_until is None
    assert len(_notes(site, subscriber)) == 60
    named = site.client.post(f"/p/{site.link(other)}", data={"action": "name", "name": "Al"})
    assert named.status_code == 200
    assert site.client.post(path, data={"action": "unsubscribe"}).status_code == 200
    assert site.status(subscriber) == "unsubscribed"
