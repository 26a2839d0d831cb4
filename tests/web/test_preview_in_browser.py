"""The preview in Chromium: it follows saves in place, and nothing in a mail runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from mailer.config import Brand, load
from mailer.review.viewing import Preview, preview
from mailer.web.operator.preview import create_preview_app
from mailer.web.operator.watching import FileWatcher
from tests.end_to_end.newsletter import Folder
from tests.web.conftest import serving
from tests.web.test_preview import save

pytestmark = pytest.mark.servers
ISSUE = "---\ntitle: A bean\n---\n\n" + "A bean wants almost nothing.\n\n" * 60
HOSTILE = """<!doctype html><html><head><title>Mail</title></head>
<body onload="parent.document.title = 'taken'">
<script>document.title = 'taken'; parent.document.title = 'taken'</script>
<img alt="" src="x" onerror="parent.document.title = 'taken'">
<iframe src="/?view=text"></iframe><meta http-equiv="refresh" content="0;url=/?view=text">
<form action="/" method="get" target="_top"><button id="send">Send</button></form>
<p><a id="script" href="javascript:parent.document.title='taken'">run</a></p></body></html>"""


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "news")
    save(made, ISSUE)
    return made


def looked_at(folder: Folder) -> Preview:
    return preview(load(folder.path / "config.toml"), folder.path / "issues" / "001-short.md")


@contextmanager
def opened(
    browser: Browser,
    folder: Folder,
    query: str = "",
    *,
    html: str = "",
    width: int = 1280,
    dark: bool = False,
) -> Iterator[tuple[Page, list[str]]]:
    """Open the preview, of other HTML if wanted; yield the page and what its console says of policies."""

    def see(address: str) -> Preview:
        found = looked_at(folder)
        return replace(found, rendered=replace(found.rendered, html=html or found.rendered.html))

    changes = FileWatcher([folder.path / "issues"])
    with serving(create_preview_app(see, changes, name="The Weekly", brand=Brand())) as url:
        context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme="dark" if dark else "light"
        )
        try:
            page = context.new_page()
            said: list[str] = []
            page.on("console", lambda line: said.append(line.text) if "Policy" in line.text else None)
            page.goto(f"{url}/{query}")
            page.wait_for_selector("#live.on")
            yield page, said
        finally:
            # The server ends when nobody listens any more.
            context.close()


def test_save_is_shown_in_place(browser: Browser, folder: Folder) -> None:
    with opened(browser, folder) as (page, said):
        page.wait_for_selector("#mail[style*=height]")
        page.evaluate("window.kept = true; scrollTo(0, 600)")
        before = page.get_attribute("#mail", "src")
        save(folder, ISSUE.replace("nothing", "no water at all"))
        page.wait_for_selector(f"#mail[src='{before}']", state="detached")
        assert page.frame_locator("#mail").get_by_text("no water at all").count() == 60
        assert page.evaluate("[window.kept, scrollY]") == [True, 600]
        save(folder, "---\ntitel: A bean\n---\n")
        page.wait_for_selector("text=This cannot be rendered yet")
        save(folder, ISSUE)
        page.wait_for_selector("iframe")
        assert page.evaluate("window.kept") is True
        assert said == []


def test_hostile_mail_does_nothing(browser: Browser, folder: Folder) -> None:
    with opened(browser, folder, html=HOSTILE) as (page, _):
        frame = page.frames[1]
        frame.click("#send")
        frame.click("#script")
        page.wait_for_timeout(300)
        assert page.title() == "A bean · The Weekly"
        assert "/mail?" in frame.url
        assert frame.evaluate_handle("document").get_property("title").json_value() == "Mail"


def test_link_opens_beside_the_mail(browser: Browser, folder: Folder) -> None:
    save(folder, "---\ntitle: A bean\n---\n\nRead [the notes](http://127.0.0.1:9/notes).\n")
    with opened(browser, folder) as (page, _), page.context.expect_page() as beside:
        page.frames[1].click("text=the notes")
    assert "/mail?" not in beside.value.url


def test_every_view_fits_a_phone_and_obeys_its_policy(browser: Browser, folder: Folder) -> None:
    with opened(browser, folder, width=375, dark=True) as (page, said):
        for view, links in (
            ("Desktop", ["Dark"]),
            ("Phone", ["Dark"]),
            ("Text", []),
            ("Source", []),
            ("Headers", []),
        ):
            for name in (view, *links):
                page.get_by_role("link", name=name, exact=True).click()
                page.wait_for_selector("#live.on")
                assert (view, page.evaluate("document.documentElement.scrollWidth")) == (view, 375)
            box = page.locator("iframe").bounding_box() if links else None
            assert (view, box and box["width"]) == (view, {"Desktop": 700, "Phone": 375}.get(view))
        assert said == []


def test_mail_is_dark_by_choice_and_not_by_the_browser(browser: Browser, folder: Folder) -> None:
    found = []
    for dark in (False, True):
        with opened(browser, folder, dark=dark) as (page, _):
            for query in ("", "&scheme=dark"):
                page.goto(page.url.partition("?")[0] + f"?view=phone{query}")
                found.append(page.frames[1].evaluate("getComputedStyle(document.body).backgroundColor"))
    assert found[:2] == found[2:]
    assert found[0] != found[1]
