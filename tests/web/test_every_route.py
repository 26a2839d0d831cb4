"""All methods on all routes with all tokens: nothing fails, and nothing changes that should not."""

from __future__ import annotations

import itertools
import re

import httpx
import pytest

from mailer import api_tokens as access
from mailer.api_tokens import Scope
from mailer.config import Tracking
from mailer.tokens import Signer, Subject
from tests.web.conftest import AT, CROCUS, OpenSite, Site, edition
from tests.web.test_unsubscribe import everything_in

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
LINK_PATHS = (
    "/u/{}",
    "/p/{}",
    "/p/{}/pause",
    "/p/{}/tracking",
    "/p/{}/data",
    "/p/{}/erase",
    "/v/{}",
    f"/v/{{}}/{CROCUS.name}",
    "/c/{}/0",
    "/o/{}.gif",
)
CONFIRM_PATHS = ("/confirm/{}",)
OTHER_PATHS = (
    "/", "/archive", "/archive/", "/archive/007-spring", f"/archive/007-spring/{CROCUS.name}", "/tags/x",
    "/years/2026", "/feed.xml", "/rss.xml", "/feed.json", "/sitemap.xml", "/subscribe", "/healthz",
    "/style.css", "/favicon.ico", "/robots.txt", "/hooks/ses", "/hooks/x", "/api/v1/subscribers",
    "/api/v1/subscribers/1", "/api/v1/subscribers/1/unsubscribe", "/api/v1/openapi.json", "/api/v1", "/none",
)  # fmt: skip
FORM = {
    "List-Unsubscribe": "One-Click", "confirm": "yes", "action": "name", "name": "Changed", "weeks": "4",
    "tracking": "yes", "email": "jo@example.org",
}  # fmt: skip


def tokens(site: Site, subscriber: int, issue: int) -> dict[str, str]:
    subject = Subject(issue, subscriber)
    foreign = Signer([b"the secret of another installation"])
    return {
        "link": site.signer.link(subject),
        "confirmation": site.signer.confirmation(subject),
        "return path": site.signer.return_path(subject),
        "foreign link": foreign.link(subject),
        "foreign confirmation": foreign.confirmation(subject),
        "number": str(subscriber),
        "nothing": "",
        "API token": "mlr_1_" + "A" * 43,
        "long": "a" * 2_000,
    }


def ask(site: Site, method: str, path: str) -> httpx.Response:
    data = FORM if method in ("POST", "PUT", "PATCH") else None
    return site.client.request(method, path, data=data)


@pytest.mark.parametrize("method", METHODS)
def test_wrong_token_opens_nothing_anywhere(open_site: OpenSite, method: str) -> None:
    with open_site(tracking=Tracking(opens=True, clicks=True)) as site:
        subscriber = site.subscribe()
        given = tokens(site, subscriber, site.issue(edition()))
        before = everything_in(site)
        for right, paths in (("link", LINK_PATHS), ("confirmation", CONFIRM_PATHS)):
            for name, token in given.items():
                for path in paths if name != right else ():
                    answer = ask(site, method, path.format(token))
                    # OPTIONS says which methods there are, whatever the token.
                    allowed = (204, 404, 405) if method == "OPTIONS" else (404, 405)
                    assert (path, name, answer.status_code in allowed) == (path, name, True)
        assert everything_in(site) == before


@pytest.mark.parametrize("method", METHODS)
def test_no_method_on_any_route_is_a_failure(open_site: OpenSite, method: str) -> None:
    with open_site(tracking=Tracking(opens=True, clicks=True)) as site:
        given = tokens(site, site.subscribe(), site.issue(edition()))
        paths = [
            *OTHER_PATHS,
            *(path.format(given["link"]) for path in LINK_PATHS),
            *(path.format(given["confirmation"]) for path in CONFIRM_PATHS),
        ]
        for path in paths:
            answer = ask(site, method, path)
            assert (path, answer.status_code < 500) == (path, True)
            if answer.status_code == 405:
                assert (path, method in answer.headers["allow"].split(", ")) == (path, False)


@pytest.mark.parametrize("method", [method for method in METHODS if method != "POST"])
def test_only_post_changes_a_subscriber(open_site: OpenSite, method: str) -> None:
    with open_site() as site:
        given = tokens(site, site.subscribe(), site.issue(edition()))
        before = everything_in(site)
        for path in LINK_PATHS:
            ask(site, method, path.format(given["link"]))
        ask(site, method, CONFIRM_PATHS[0].format(given["confirmation"]))
        assert everything_in(site) == before


BODIES = ('{"email": "jo@example.org"}', "[]", '{"email": "\\ud800"}', "[" * 20_000)


@pytest.mark.slow
def test_no_method_on_any_path_of_the_api_is_a_failure(open_site: OpenSite) -> None:
    with open_site() as site:
        number, issue = site.subscribe(), edition()
        site.issue(issue)
        with site.database.transaction() as connection:
            _, every_scope = access.create(connection, "everything", list(Scope), at=AT)
        paths = site.client.get("/api/v1/openapi.json").json()["paths"]
        assert len(paths) > 15
        foreign = {"none": "", "a link": tokens(site, number, 1)["link"], "wrong": f"{every_scope[:-4]}AAAA"}
        before = everything_in(site)
        for template, method in itertools.product(sorted(paths), METHODS):
            for value in (str(number), issue.slug):
                path = re.sub(r"{\w+}", value, template)
                for name, token in foreign.items():
                    headers = {"Authorization": f"Bearer {token}"} if token else {}
                    status = site.client.request(method, path, headers=headers).status_code
                    # 404 only where the router knows no such path, and 429 after many wrong tokens.
                    assert (path, method, name, status in (401, 404, 405, 429)) == (path, method, name, True)
                if "{" not in template:
                    break
        assert everything_in(site) == before
        headers = {"Authorization": f"Bearer {every_scope}", "Content-Type": "application/json"}
        for template, method in itertools.product(sorted(paths), METHODS):
            for body in BODIES if method in ("POST", "PUT", "PATCH") else ("",):
                for value in (str(number), "9" * 30, "%00"):
                    path = re.sub(r"{\w+}", value, template)
                    status = site.client.request(method, path, headers=headers, content=body).status_code
                    assert (path, method, body[:20], status < 500) == (path, method, body[:20], True)
                    if "{" not in template:
                        break
