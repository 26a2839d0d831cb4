"""Every page and email by the rules of axe-core: WCAG 2.2 AA and good practice, light and dark."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

import pytest
from lxml import html
from playwright.sync_api import Browser, Page

from mailer.config import Brand, Tracking, load
from mailer.rendering.build import Letter, build_letter
from mailer.review import sample
from mailer.tokens import Subject
from mailer.web.operator.outbox import create_outbox_app
from tests.conftest import PROJECT, missing
from tests.rendering.scene import received
from tests.web.conftest import OpenSite, Site, edition, serving
from tests.web.test_outbox import keep, message
from tests.web.test_public_site import ABOUT

pytestmark = pytest.mark.servers

_AXE: Final = PROJECT / "tests" / "install" / "node" / "node_modules" / "axe-core" / "axe.min.js"
_RUN: Final = """
async (options) => (
    await axe.run(document, {iframes: false, resultTypes: ["violations"], ...options})
).violations.map(
    (found) => `${found.id}: ${found.nodes.map((node) => node.html + " " + node.failureSummary).join(" | ")}`)
"""
_WIDTHS: Final = (375, 1280)
# Clients put an email into a page of their own, which has the landmarks: an email with a <main> would give
# that page two, and webmail turns <main> into <div> anyway. A "region" outside landmarks follows from that.
_OF_PAGES: Final = {"landmark-one-main": {"enabled": False}, "region": {"enabled": False}}
# The layout is all that differs on a wide screen, and the colours are all that differs by night.
_OF_LAYOUT: Final = {"runOnly": ["color-contrast", "scrollable-region-focusable", "target-size"]}
_SCHEMES: Final = {"light": {}, "dark": {"runOnly": ["color-contrast", "link-in-text-block"]}}


@pytest.fixture(scope="module")
def axe() -> str:
    """The program that judges; our pages allow no script, so it needs a context that overrides them."""
    if not _AXE.exists():
        missing("axe-core, which tests/install/node.sh installs,")
    return _AXE.read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Shown:
    """One page to judge: where it is, and what is done there first."""

    name: str
    path: str
    act: Callable[[Page], Any] | None = None


def _presses(selector: str, **fields: str) -> Callable[[Page], None]:
    def act(page: Page) -> None:
        for name, value in fields.items():
            page.fill(f"[name={name}]", value)
        # What the browser itself would refuse must reach the server, which answers with its own page.
        page.eval_on_selector_all("form", "forms => forms.forEach(form => form.noValidate = true)")
        with page.expect_navigation():
            page.click(selector)

    return act


def _pages(site: Site, kept: str) -> list[Shown]:
    issue = site.issue(edition(tags=("sowing",), subtitle="It thaws"))
    site.issue(edition("006-winter", date="2025-12-24", title="Winter"))
    token = site.link(site.subscribe(), issue)
    other, gone = site.link(site.subscribe("al@example.org")), site.link(site.subscribe("mo@example.org"))
    confirm = site.signer.confirmation(Subject(0, site.subscribe("bo@example.org")))
    wrong_name = _presses('form:has([value="name"]) button', name="=?utf-8?q?Jo?=")
    return [
        Shown("archive", "/archive/"),
        Shown("issue", "/archive/007-spring"),
        Shown("search", "/archive/?q=spring"),
        Shown("nothing found", "/archive/?q=nothing"),
        Shown("tag", "/tags/sowing"),
        Shown("year", "/years/2026"),
        Shown("sign-up", "/subscribe"),
        Shown("sign-up refused", "/subscribe", _presses("form button", email="jo@", name="Jo")),
        Shown(
            "name refused at sign-up",
            "/subscribe",
            _presses("form button", email="a@b.example", name="=?utf-8?q?Jo?="),
        ),
        Shown("sent", "/subscribe", _presses("form button", email="new@example.org")),
        Shown("confirm", f"/confirm/{confirm}"),
        Shown("confirmed", f"/confirm/{confirm}", _presses("form button")),
        Shown("preferences", f"/p/{token}"),
        Shown("name refused", f"/p/{token}", wrong_name),
        Shown("name saved", f"/p/{token}", _presses('form:has([value="name"]) button', name="Jo")),
        Shown("paused", f"/p/{token}", _presses('form[action$="/pause"] button')),
        Shown("data", f"/p/{token}/data"),
        Shown("data refused", f"/p/{token}/data", _presses("form button", email="x@example.net")),
        Shown("erase", f"/p/{token}/erase"),
        Shown("erase refused", f"/p/{token}/erase", _presses("form button", email="x@example.net")),
        Shown("erased", f"/p/{gone}/erase", _presses("form button", email="mo@example.org")),
        Shown("unsubscribe", f"/u/{token}"),
        Shown("unsubscribed", f"/u/{other}", _presses("form button")),
        Shown("come back", f"/p/{other}"),
        Shown("not found", "/none"),
        Shown("damaged link", "/u/none"),
        Shown("outbox", ""),
        Shown("mail", f"/message/{kept}"),
        Shown("mail text", f"/message/{kept}?view=text"),
        Shown("mail header", f"/message/{kept}?view=headers"),
    ]


def _violations(page: Page) -> list[str]:
    """Return what axe-core finds on the page that is shown: small, wide, and by night."""
    found: list[str] = []
    for width in _WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") == width, page.url
        for scheme, options in _SCHEMES.items() if width == _WIDTHS[0] else [("light", _OF_LAYOUT)]:
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            found += [f"{width} {scheme} {one}" for one in page.evaluate(_RUN, options)]
    return found


def test_axe_finds_nothing_on_any_page(
    browser: Browser, axe: str, open_site: OpenSite, tmp_path: Path
) -> None:
    (tmp_path / "kept" / "new").mkdir(parents=True)
    kept = keep(tmp_path / "kept", message(html="<p>Hello</p>"))
    found: list[tuple[str, str]] = []
    with (
        open_site(tracking=Tracking(clicks=True), tags={"art": "Art"}, newsletter=ABOUT) as site,
        serving(create_outbox_app(tmp_path / "kept", brand=Brand())) as outbox,
    ):
        page = browser.new_page(bypass_csp=True)
        for shown in _pages(site, kept):
            base = outbox if not shown.path or shown.path.startswith("/message") else site.client.base_url
            page.goto(str(base).rstrip("/") + shown.path)
            if shown.act is not None:
                shown.act(page)
            page.evaluate(axe)
            found += [(shown.name, one) for one in _violations(page)]
        page.close()
    assert found == []


@pytest.mark.parametrize(
    ("path", "fields", "faulty"),
    [
        ("/subscribe", {"email": "jo@", "name": "Jo"}, "email"),
        ("/subscribe", {"email": "jo@example.org", "name": "=?utf-8?q?Jo?="}, "name"),
        ("/p/{}", {"action": "name", "name": "=?utf-8?q?Jo?="}, "name"),
        ("/p/{}/data", {"email": "x@example.net"}, "email"),
        ("/p/{}/erase", {"email": "x@example.net"}, "email"),
    ],
)
def test_field_that_was_refused_says_so_itself(
    site: Site, path: str, fields: dict[str, str], faulty: str
) -> None:
    token = site.link(site.subscribe())
    page = html.fromstring(site.client.post(path.format(token), data=fields).content)
    assert page.xpath("//input[@aria-invalid='true']/@name") == [faulty]
    assert page.xpath("//input[@aria-invalid='true']/@aria-describedby") == ["problem"]
    assert page.xpath("count(//*[@id='problem' and @role='alert' and normalize-space()])") == 1


def test_axe_would_find_faults_by_day_by_night_and_on_wide_screens(browser: Browser, axe: str) -> None:
    page = browser.new_page(bypass_csp=True)
    page.set_content("""<!doctype html><html lang="en"><title>Bad</title>
        <meta name="viewport" content="width=device-width">
        <style>@media (prefers-color-scheme: dark) { p { color: #333; background: #222 } }
        @media (min-width: 600px) { p { color: #eee; background: #fff } }</style>
        <main><h1>Bad</h1><p>Too dark to be read at night</p><input></main>""")
    page.evaluate(axe)
    assert [one.split(":")[0] for one in _violations(page)] == [
        "375 light label",
        "375 dark color-contrast",
        "1280 light color-contrast",
    ]
    page.close()


def _emails() -> Iterator[tuple[str, str]]:
    """Yield the name and the HTML of the gallery's issues, and of every letter in scripts of all kinds."""
    settings = load(PROJECT / "config.toml", flags={"rendering": {"raw_html": True}})
    oracle = PROJECT / "tests" / "oracle"
    for path in (*(PROJECT / "issues").glob("*.md"), *oracle.glob("*.md")):
        yield path.stem, sample.render(settings, path).html
    for kind in get_args(Letter):
        for language in ("en", "de", "ar", "he", "ja"):
            letter = build_letter(
                kind,
                settings.newsletter,
                settings.brand,
                PROJECT / "email_templates",
                public_url=settings.web.public_url,
                language=language,
            )
            yield f"{kind} {language}", received(letter, letter=True).html


def test_axe_finds_nothing_in_any_email(browser: Browser, axe: str) -> None:
    found: list[tuple[str, str]] = []
    page = browser.new_page(viewport={"width": 375, "height": 900})
    page.route("**/*", lambda route: route.abort())
    for name, email in _emails():
        page.set_content(email, wait_until="domcontentloaded")
        page.evaluate(axe)
        for scheme, options in _SCHEMES.items():
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            found += [
                (name, f"{scheme} {one}") for one in page.evaluate(_RUN, {"rules": _OF_PAGES, **options})
            ]
    page.close()
    assert found == []
