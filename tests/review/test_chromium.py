"""A Chromium on this machine finds what reaches beyond the screen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mailer.rendering.source import parse_issue
from mailer.review import chromium
from mailer.review.chromium import Chromium, Excess, Ruler
from mailer.review.linting import with_browser
from tests.conftest import program
from tests.rendering.lint.scene import HTML, SOURCE, linted

PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with chromium.started(program(*chromium.NAMES)) as started:
        yield started


def page(body: str) -> str:
    return f"<!DOCTYPE html><html><body style='margin:0'>{body}</body></html>"


@pytest.mark.parametrize(
    ("expected", "body"),
    [
        ([], "<p>short</p>"),
        ([Excess("div", "Beans", 400)], '<div style="width:400px">Beans</div>'),
        (
            [Excess("p", "Beans", 500)],
            '<div><p style="position:absolute;left:100px;width:400px">Beans</p></div>',
        ),
        ([Excess("img", "A jar", 600)], f'<img src="{PIXEL}" width="600" height="9" alt="A jar">'),
        ([], '<div style="overflow-x:auto"><div style="width:900px">Beans</div></div>'),
        ([], '<div style="display:none;width:900px">Beans</div>'),
    ],
)
def test_only_what_reaches_beyond_the_screen_is_found(
    browser: Chromium, expected: list[Excess], body: str
) -> None:
    assert browser.measure(page(body), width=320) == expected


def test_text_in_a_box_that_hides_it_is_found(browser: Chromium) -> None:
    (found,) = browser.measure(page(f'<div style="overflow:hidden"><p>{"x" * 99}</p></div>'), width=320)
    assert (found.tag, found.text) == ("p", "x" * 99)


def test_script_in_the_message_does_not_run(browser: Chromium) -> None:
    script = "<script>document.body.innerHTML = '<div style=\"width:900px\">x</div>'</script>"
    assert browser.measure(page(f"<p>short</p>{script}"), width=320) == []


def test_finding_has_the_line_of_the_issue(browser: Chromium) -> None:
    html = page('<div style="width:400px">the society of gardeners</div>')
    issue = parse_issue(SOURCE, Path("issues/001.md"))
    report = with_browser(linted(), issue, html, lambda html, width: browser.measure(html, width=width))
    assert [(one.check, one.line, one.message) for one in report.findings] == [
        ("too-wide", 8, "Chromium: 'the society of gardeners' needs a screen of 400 px; phones have 320")
    ]


def test_preview_goes_on_without_a_browser_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken-browser"
    broken.write_text("#!/bin/sh\necho 'no display here' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(chromium, "NAMES", (str(broken),))
    said: list[str] = []
    with Ruler(said.append) as ruler:
        assert ruler.measure(page(""), 320) == []
        assert ruler.measure(page(""), 320) == []
    assert len(said) == 1
    assert "no display here" in said[0]


def test_nothing_is_found_twice(browser: Chromium) -> None:
    wide = '<div style="width:400px">the society of gardeners</div>'
    report = linted(HTML.replace("<!-- more -->", wide))
    assert [one.check for one in report.findings] == ["too-wide"]
    issue = parse_issue(SOURCE, Path("issues/001.md"))
    again = with_browser(report, issue, page(wide), lambda html, width: browser.measure(html, width=width))
    assert again == report
