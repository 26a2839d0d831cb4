"""The API's routes about issues and statistics: a whole issue without a terminal, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from mailer import api_tokens as access
from mailer.api_tokens import Scope
from mailer.config import Newsletter
from mailer.reports.rollups import refresh
from mailer.review import release
from mailer.review.planning import Plan
from tests.postgres import Server
from tests.web.conftest import AT, OpenSite, Site

TEMPLATES = Path(__file__).parents[2] / "email_templates"
NEWSLETTER = Newsletter(
    name="The Weekly", author_address="ana@example.org", postal_address="1 Example Street"
)
SOURCE = "---\ntitle: Spring\ndate: 2026-03-06\npreheader: Crocuses\n---\n\nHello, read [the news of spring](https://example.org).\n"


class Client:
    """Calls the API with a token of certain scopes."""

    def __init__(self, site: Site, *scopes: Scope) -> None:
        with site.database.transaction() as connection:
            self.token, self.text = access.create(connection, "robot", scopes, at=AT)
        self.site = site

    def __call__(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.text}", **options.pop("headers", {})}
        return self.site.client.request(method, f"/api/v1{path}", headers=headers, **options)

    def send(self, issue: str, key: str = "k1", **body: Any) -> httpx.Response:
        return self("POST", f"/issues/{issue}/send", json=body, headers={"Idempotency-Key": key})


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "sqlite":
        return "sqlite:///subscribers.db"
    server: Server = request.getfixturevalue("postgresql")
    return server.new_database()


@pytest.fixture
def api(open_site: OpenSite) -> Iterator[Client]:
    with open_site(own=TEMPLATES, newsletter=NEWSLETTER) as opened:
        yield Client(opened, *Scope)


def test_whole_job_of_an_editor(open_site: OpenSite, url: str) -> None:
    with open_site(own=TEMPLATES, newsletter=NEWSLETTER, url=url) as site:
        api = Client(site, *Scope)
        for number in range(3):
            site.subscribe(f"r{number}@example.org")
        made = api("POST", "/issues", json={"title": "Spring, at last"})
        assert (made.status_code, made.headers["location"]) == (201, "/api/v1/issues/001-spring-at-last")
        draft = made.json()
        assert (draft["state"], draft["books"]) == ("draft", None)
        path = "/issues/001-spring-at-last"
        saved = api("PUT", path, json={"source": SOURCE, "digest": draft["digest"]})
        assert (saved.status_code, saved.json()["source"], saved.json()["title"]) == (200, SOURCE, "Spring")
        stale = api("PUT", path, json={"source": "other", "digest": draft["digest"]})
        assert (stale.status_code, api("GET", path).json()["source"]) == (409, SOURCE)
        assert api("POST", path + "/lint").json()["findings"] == []
        shown = api("GET", path + "/preview").json()
        assert (shown["subject"], "Crocuses" in shown["html"]) == ("Spring", True)
        assert "Hello, read" in shown["text"]
        assert api("GET", path + "/books").status_code == 404
        at = datetime.now(UTC) + timedelta(days=1)
        planned = api("PUT", path + "/schedule", json={"at": at.isoformat()})
        assert (planned.status_code, planned.json()["audience"]) == (200, 3)
        assert [one["state"] for one in api("GET", "/issues").json()["items"]] == ["scheduled"]
        assert api("DELETE", path + "/schedule").status_code == 204
        wall = {"local_time": "2031-07-01T08:00:00", "timezone": "Europe/Bucharest"}
        everywhere = api("PUT", path + "/schedule", json=wall).json()
        assert everywhere["local_time"] == wall["local_time"]
        # It is that time in the first zone on earth, UTC+14, fourteen hours earlier.
        assert datetime.fromisoformat(everywhere["at"]) == datetime(2031, 6, 30, 18, tzinfo=UTC)
        assert api("DELETE", path + "/schedule").status_code == 204
        for wrong in ({}, {"at": None}, wall | {"at": at.isoformat()}, wall | {"local_time": at.isoformat()},
                      wall | {"timezone": "Mars/Olympus"}):  # fmt: skip
            assert api("PUT", path + "/schedule", json=wrong).status_code == 422, wrong
        assert api("DELETE", path + "/schedule").status_code == 404
        queued = api.send("001-spring-at-last")
        assert (queued.status_code, queued.json()["audience"]) == (202, 3)
        assert api("GET", path + "/books").json()["queued"] == 3
        page = api("GET", path + "/deliveries", params={"limit": 2}).json()
        rest = api("GET", path + "/deliveries", params={"cursor": page["next"]}).json()
        assert [one["address"][:2] for one in page["items"] + rest["items"]] == ["r0", "r1", "r2"]
        assert api("GET", path + "/deliveries", params={"state": "sent"}).json()["items"] == []
        refresh(site.database, at=datetime.now(UTC), segments={}, quiet_days=30)
        figures = api("GET", "/stats").json()
        assert [one["audience"] for one in figures["issues"]] == [3]
        assert figures["growth"][-1]["active"] == 3 or figures["health"]["statuses"]["active"] == 3
        one = api("GET", "/stats/issues/001-spring-at-last").json()
        assert one["figures"]["open"] == 3


def test_repeated_request_sends_once_and_gets_the_same_answer(api: Client) -> None:
    api.site.subscribe()
    api("POST", "/issues", json={"title": "One", "source": SOURCE})
    first = api.send("001-one", "key-1")
    assert first.status_code == 202
    assert api.send("001-one", "key-1").json() == first.json()
    other = api.send("001-one", "key-1", segment="tag:vip")
    assert (other.status_code, "another request" in other.json()["detail"]) == (409, True)
    again = api.send("001-one", "key-2")
    assert (again.status_code, "queued already" in again.json()["detail"]) == (409, True)
    assert api("POST", "/issues/001-one/send", json={}).status_code == 422


@pytest.mark.parametrize("moment", ["before the checks", "after the checks"])
@pytest.mark.parametrize(("key", "status"), [("key-1", 202), ("key-2", 409)])
def test_simultaneous_request_with_the_same_key_gets_the_first_answer(
    api: Client, monkeypatch: pytest.MonkeyPatch, key: str, status: int, moment: str
) -> None:
    api.site.subscribe()
    api("POST", "/issues", json={"title": "One", "source": SOURCE})
    check = release.check_release
    faster: list[httpx.Response | None] = []

    def checked(*arguments: Any, **options: Any) -> Plan:
        first = not faster
        faster.append(None)
        if first and moment == "before the checks":
            faster.append(api.send("001-one", "key-1"))
        plan = check(*arguments, **options)
        if first and moment == "after the checks":
            faster.append(api.send("001-one", "key-1"))
        return plan

    monkeypatch.setattr(release, "check_release", checked)
    slower = api.send("001-one", key)
    (answer,) = [one for one in faster if one is not None]
    assert (answer.status_code, slower.status_code) == (202, status)
    if status == 202:
        assert slower.json() == answer.json()


def test_issue_with_mistakes_is_not_sent(api: Client) -> None:
    api.site.subscribe()
    api("POST", "/issues", json={"title": "Bad", "source": SOURCE.replace("https://example.org", "")})
    refused = api.send("001-bad")
    assert (refused.status_code, refused.headers["content-type"]) == (409, "application/problem+json")
    assert "lint found 1 error" in refused.json()["detail"]
    assert api.send("001-bad", lint=False).status_code == 202


def test_broken_source_is_explained_without_the_folders_of_the_server(api: Client) -> None:
    api("POST", "/issues", json={"title": "Bad", "source": "---\ntitle: [\n---\n"})
    answer = api("POST", "/issues/001-bad/lint")
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("001-bad.md:")
    assert api("GET", "/issues/001-bad").json()["title"] == "001-bad"
    assert [one["slug"] for one in api("GET", "/issues").json()["items"]] == ["001-bad"]


@pytest.mark.parametrize("name", ["../config", "..%2Fconfig", "%2e%2e%2fconfig.toml", "a%00b", "config.toml"])
def test_no_name_leads_out_of_the_folder(api: Client, name: str) -> None:
    for method, path in (("GET", ""), ("POST", "/lint"), ("GET", "/preview")):
        assert api(method, f"/issues/{name}{path}").status_code in (404, 405, 422)
    body = {"source": "x", "digest": "0" * 64}
    assert api("PUT", f"/issues/{name}", json=body).status_code in (404, 405, 422)


def test_image_outside_the_folder_is_refused(api: Client) -> None:
    source = SOURCE + "\n![secret](../../../../../../etc/hostname)\n"
    api("POST", "/issues", json={"title": "Sly", "source": source})
    assert api("GET", "/issues/001-sly/preview").status_code == 422


def test_pages_of_issues_follow_one_another(api: Client) -> None:
    for number in range(5):
        api("POST", "/issues", json={"title": f"N{number}"})
    seen, cursor = [], ""
    while cursor is not None:
        page = api("GET", "/issues", params={"limit": 2, "cursor": cursor}).json()
        seen += [one["slug"] for one in page["items"]]
        cursor = page["next"]
    assert seen == ["005-n4", "004-n3", "003-n2", "002-n1", "001-n0"]
    assert api("GET", "/issues", params={"state": "finished"}).json()["items"] == []


@pytest.mark.parametrize(
    ("scope", "method", "path", "body"),
    [
        (Scope.READ_ISSUES, "GET", "/issues", None),
        (Scope.READ_ISSUES, "GET", "/issues/001-one/preview", None),
        (Scope.READ_ISSUES, "POST", "/issues/001-one/lint", None),
        (Scope.WRITE_ISSUES, "POST", "/issues", {"title": "Two"}),
        (Scope.SEND_ISSUES, "POST", "/issues/001-one/send", {}),
        (Scope.READ_STATS, "GET", "/stats", None),
    ],
)
def test_each_act_needs_its_scope(
    api: Client, scope: Scope, method: str, path: str, body: dict[str, Any] | None
) -> None:
    api.site.subscribe()
    api("POST", "/issues", json={"title": "One", "source": SOURCE})
    headers = {"Idempotency-Key": "k"}
    refused = Client(api.site, *(set(Scope) - {scope}))(method, path, json=body, headers=headers)
    assert (refused.status_code, scope.value in refused.json()["detail"]) == (403, True)
    assert Client(api.site, scope)(method, path, json=body, headers=headers).status_code < 300


def test_deliveries_name_people_and_need_both_scopes(api: Client) -> None:
    for scope, lacking in ((Scope.READ_ISSUES, Scope.READ), (Scope.READ, Scope.READ_ISSUES)):
        refused = Client(api.site, scope)("GET", "/issues/001-one/deliveries")
        assert (refused.status_code, lacking.value in refused.json()["detail"]) == (403, True)
    assert (
        Client(api.site, Scope.READ_ISSUES, Scope.READ)("GET", "/issues/001-one/deliveries").status_code
        == 404
    )
