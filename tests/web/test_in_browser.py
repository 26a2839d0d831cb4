"""The pages in Chromium: what the policies forbid does not happen, and every page fits a phone."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page
from sqlalchemy import select
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from mailer.config import Brand, Newsletter
from mailer.database.tables import Consent
from mailer.tokens import Subject
from mailer.web.operator.outbox import create_outbox_app
from mailer.web.public.subscribe import embedded_form
from mailer.web.theme import Theme
from tests.web.conftest import OpenSite, Site, edition, serving
from tests.web.test_outbox import keep, message

pytestmark = pytest.mark.servers


def opened(browser: Browser, url: str, asked: list[str], *, width: int = 1280) -> Page:
    """Open a page; `asked` gets every address that the browser asks for on its account."""
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    return page


def console_of(page: Page) -> list[str]:
    """Return what the page's console says from now on."""
    said: list[str] = []
    page.on("console", lambda line: said.append(line.text))
    return said


def test_hostile_message_runs_nothing_and_fetches_nothing(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    fetched: list[str] = []

    async def tracker(scope: Scope, receive: Receive, send: Send) -> None:
        fetched.append(scope["path"])
        await PlainTextResponse("")(scope, receive, send)

    with (
        serving(create_outbox_app(tmp_path, brand=Brand())) as url,
        serving(Starlette(routes=[Mount("/", tracker)])) as far,
    ):
        html = f"""
            <script>document.title = 'taken'; parent.document.title = 'taken'</script>
            <img alt="" src="x" onerror="document.body.id = 'taken'">
            <img alt="" src="cid:crocus@example.org"><img alt="" src="{far}/image">
            <link rel="stylesheet" href="{far}/sheet"><style>p {{ background: url({far}/style) }}</style>
            <iframe src="{far}/frame"></iframe><meta http-equiv="refresh" content="0;url={far}/refresh">
            <p>Hello <a href="{far}/link">link</a></p>"""
        asked: list[str] = []
        page = opened(browser, f"{url}/message/{keep(tmp_path, message(html=html))}", asked)
        frame = page.frames[1]
        frame.wait_for_selector("p")
        page.wait_for_timeout(500)
        title = page.title()
        page.close()
    assert title == "Hello · Outbox"
    assert any("/images/crocus" in one for one in asked)
    assert fetched == []


@pytest.mark.parametrize(("scheme", "locale"), [("light", "de-DE"), ("dark", "en-GB")])
def test_every_page_fits_a_phone_and_obeys_its_policy(
    browser: Browser, site: Site, scheme: str, locale: str
) -> None:
    issue = site.issue(edition())
    subscriber = site.subscribe("a.person.with.a.rather.long.address@mail.department.example.org")
    token = site.link(subscriber, issue)
    confirm = site.signer.confirmation(Subject(0, subscriber))
    for path in (
        "/",
        "/archive/007-spring",
        f"/u/{token}",
        f"/p/{token}",
        "/subscribe",
        f"/confirm/{confirm}",
    ):
        context = browser.new_context(
            viewport={"width": 375, "height": 800},
            locale=locale,
            color_scheme=scheme,  # type: ignore[arg-type]
        )
        page = context.new_page()
        said = console_of(page)
        page.goto(f"{site.client.base_url}{path}")
        assert (path, page.evaluate("document.documentElement.scrollWidth")) == (path, 375)
        assert page.locator("html").get_attribute("lang") == locale[:2]
        assert (path, [line for line in said if "Policy" in line]) == (path, [])
        context.close()


def test_person_unsubscribes_and_comes_back_by_keyboard_alone(browser: Browser, site: Site) -> None:
    subscriber = site.subscribe()
    page = opened(browser, f"{site.client.base_url}/u/{site.link(subscriber)}", [])
    page.locator("button").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("text=You are unsubscribed")
    assert site.status(subscriber) == "unsubscribed"
    page.click("text=your preferences page")
    page.get_by_role("button", name="Subscribe again").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("text=You are subscribed again.")
    assert site.status(subscriber) == "active"
    page.close()


@pytest.mark.parametrize("width", [375, 1280])
def test_form_on_a_page_of_ones_own_subscribes(browser: Browser, site: Site, width: int) -> None:
    url = str(site.client.base_url)
    form = embedded_form(Theme(Brand(), name="The Weekly", language="en").speaking("en"), url)
    html = f'<!doctype html><meta name="viewport" content="width=device-width"><title>Robin</title>{form}'

    async def own(scope: Scope, receive: Receive, send: Send) -> None:
        await HTMLResponse(html)(scope, receive, send)

    with serving(Starlette(routes=[Mount("/", own)])) as far:
        page = opened(browser, far, [], width=width)
        assert not page.get_by_label("Leave this empty").is_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.get_by_label("Email address").fill("jo@example.org")
        page.get_by_role("button", name="Subscribe").click()
        page.get_by_role("heading", name="Check your inbox").wait_for()
        page.close()
    (letter,) = site.letters(1)
    assert letter["To"] == "jo@example.org"
    with site.database.reading() as connection:
        (line,) = connection.execute(select(Consent.c.form, Consent.c.note))
        assert (line.form, line.note) == ("embedded", f"on a page of {far}")


@pytest.mark.parametrize(("language", "style"), [("ar", "normal"), ("zh", "normal"), ("en", "italic")])
def test_quotes_on_the_web_are_slanted_only_in_scripts_that_have_italics(
    browser: Browser, open_site: OpenSite, language: str, style: str
) -> None:
    with open_site() as site:
        site.issue(edition(language=language, page="<blockquote><p>One.</p></blockquote>"))
        page = browser.new_page()
        page.goto(f"{site.client.base_url}/archive/007-spring")
        found = page.eval_on_selector("blockquote", "quote => getComputedStyle(quote).fontStyle")
        page.close()
    assert found == style


@pytest.mark.parametrize(("locale", "side"), [("ar", "right"), ("en", "left")])
def test_texts_of_the_first_page_begin_on_one_side(
    browser: Browser, open_site: OpenSite, locale: str, side: str
) -> None:
    about = Newsletter(name="رسائل النافذة", description="رسالة كل أسبوع.", language="ar")
    with open_site(newsletter=about) as site:
        site.issue(edition(title="حبة فول", subtitle="عن الهوايات", language="ar"))
        page = browser.new_page(locale=locale)
        page.goto(f"{site.client.base_url}/archive/")
        sides = page.evaluate(
            "() => [...document.querySelectorAll('.hero h1, .description, .issues :is(a, p, time)')]"
            ".map(one => getComputedStyle(one).textAlign)"
        )
        address = page.eval_on_selector("input[type=email]", "input => getComputedStyle(input).direction")
        page.close()
    assert [side] * 5 == sides
    assert address == "ltr"
