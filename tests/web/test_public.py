"""What holds for every public page: nobody is recognised but by the link, and the link stays private."""

from __future__ import annotations

import pytest

from mailer.tokens import Subject
from tests.web.conftest import Site, edition

_FORMS: tuple[tuple[str, dict[str, str]], ...] = (
    ("/u/{}", {"List-Unsubscribe": "One-Click"}),
    ("/u/{}", {"confirm": "yes"}),
    ("/p/{}", {"action": "unsubscribe"}),
    ("/p/{}", {"action": "name", "name": "Somebody else"}),
    ("/p/{}/pause", {"weeks": "26"}),
    ("/p/{}/tracking", {"tracking": "yes"}),
    ("/p/{}/data", {"email": "jo@example.org"}),
    ("/p/{}/erase", {"email": "jo@example.org"}),
    ("/confirm/{}", {"confirm": "yes"}),
)


@pytest.mark.parametrize(("path", "fields"), _FORMS)
def test_page_elsewhere_cannot_make_a_browser_act_for_its_owner(
    site: Site, path: str, fields: dict[str, str]
) -> None:
    """A browser that has used the pages carries nothing that another page's form could lean on."""
    subscriber = site.subscribe()
    token = site.link(subscriber, site.issue(edition()))
    for visited in (f"/u/{token}", f"/p/{token}", f"/p/{token}/erase", "/subscribe"):
        site.client.get(visited)
    site.client.post(f"/p/{token}", data={"action": "name", "name": "Jo"})
    assert dict(site.client.cookies) == {}
    foreign = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "Cookie": f"token={token}"}
    for guess in ("", "none", str(subscriber), token[:-1]):
        answer = site.client.post(path.format(guess), data=fields, headers=foreign)
        assert (guess, answer.status_code in (404, 405)) == (guess, True)
    page = site.client.get(f"/p/{token}").text
    assert (site.status(subscriber), 'value="Jo"' in page) == ("active", True)


def test_token_pages_send_no_referrer(site: Site) -> None:
    subscriber = site.subscribe()
    token = site.link(subscriber)
    confirm = site.signer.confirmation(Subject(0, subscriber))
    for path in (
        f"/u/{token}",
        f"/p/{token}",
        f"/p/{token}/data",
        f"/p/{token}/erase",
        f"/confirm/{confirm}",
    ):
        headers = site.client.get(path).headers
        told = [headers.get(name) for name in ("referrer-policy", "cache-control", "x-robots-tag")]
        assert (path, told) == (path, ["no-referrer", "no-store", "noindex, nofollow"])


@pytest.mark.parametrize("forged", ["evil.example", 'evil.example"><script>alert(1)</script>'])
def test_no_page_says_what_the_host_field_claims(site: Site, forged: str) -> None:
    """Otherwise a forged Host would end up in links that people follow and caches store."""
    site.issue(edition())
    for path in ("/archive/", "/archive/007-spring", "/feed.xml", "/subscribe", "/none"):
        answer = site.client.get(path, headers={"Host": forged, "X-Forwarded-Host": forged})
        assert (path, "evil" in answer.text) == (path, False)
