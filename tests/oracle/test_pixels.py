"""The seed issue looks the same whether mrml or MJML's own converter makes it."""

from __future__ import annotations

import io
import re
from pathlib import Path

import msgspec
import pytest
from PIL import Image, ImageChops
from playwright.sync_api import Page

from mailer.config import Brand, Newsletter
from mailer.rendering.build import build_edition
from mailer.rendering.html import document as rendering
from mailer.rendering.source import read_issue
from tests.conftest import PROJECT
from tests.oracle.conftest import WIDTHS
from tests.oracle.node import node

pytestmark = pytest.mark.servers
NEWSLETTER = Newsletter(
    name="Last Week", author_name="Ada", author_address="ada@example.org", postal_address="1 Road, Town"
)
TEMPLATES = PROJECT / "email_templates"


def theirs(mjml: str, place: str, locate: object = None) -> str:
    """Return what npm's mjml makes of a document; a replacement for `to_html`."""
    return node("convert.mjs", mjml.encode())


def html_of(path: Path, brand: Brand | None = None) -> str:
    edition = build_edition(
        read_issue(path), NEWSLETTER, brand or Brand(), TEMPLATES, public_url="https://news.example.org"
    )
    return re.sub(r"\{[{%].*?[%}]\}", "", edition.html)


def picture(page: Page, html: str, width: int) -> Image.Image:
    page.set_viewport_size({"width": width, "height": 800})
    page.set_content(html)
    return Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")


def differing(one: Image.Image, other: Image.Image) -> int:
    """Return how many pixels differ; all of them, if the sizes do."""
    if one.size != other.size:
        return max(one.width * one.height, other.width * other.height)
    changed = (
        ImageChops.difference(one, other).convert("L", (1, 1, 1, 0)).point(lambda value: value > 0 and 255)
    )
    return changed.histogram()[255]


@pytest.fixture(params=["seed", "sample"])
def issue(request: pytest.FixtureRequest) -> Path:
    if request.param == "sample":
        return PROJECT / "issues" / "001-a-bean-in-a-jar.md"
    path: Path = request.getfixturevalue("seed")
    return path


def test_pixels_are_those_of_the_reference_converter(
    issue: Path, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = html_of(issue)
    monkeypatch.setattr(rendering, "to_html", theirs)
    reference = html_of(issue)
    assert ours != reference
    assert dict.fromkeys(WIDTHS, 0) == {
        width: differing(picture(page, ours, width), picture(page, reference, width)) for width in WIDTHS
    }


def test_changed_colour_is_seen(seed: Path, page: Page) -> None:
    brand = Brand()
    changed = msgspec.structs.replace(brand, text="#1f2329" if brand.text != "#1f2329" else "#1f2328")
    plain, tinted = html_of(seed, brand), html_of(seed, changed)
    for width in WIDTHS:
        assert differing(picture(page, plain, width), picture(page, tinted, width)) > 1000


@pytest.mark.parametrize("width", WIDTHS)
def test_where_images_are_off_their_words_stand_and_no_hole_is_left(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.set_content(html_of(PROJECT / "issues" / "001-a-bean-in-a-jar.md"))
    image = page.locator("table.figure img")
    words = image.get_attribute("alt") or ""
    box = image.bounding_box()
    assert box is not None
    assert len(words) > 40
    assert 18 <= box["height"] <= 70
    assert box["width"] * box["height"] > 14 * 5 * len(words)


def test_nothing_is_cut_on_a_phone_that_shows_no_images(page: Page) -> None:
    page.set_viewport_size({"width": 375, "height": 800})
    page.set_content(html_of(PROJECT / "issues" / "001-a-bean-in-a-jar.md"))
    shown = "[...document.querySelectorAll('p, img, table')].map(e => e.getBoundingClientRect())"
    assert page.evaluate(f"{shown}.filter(box => box.width > 0).length") > 20
    assert page.evaluate(f"{shown}.filter(box => box.right > 375).length") == 0
