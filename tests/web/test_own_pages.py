"""Pages of the newsletter's own, in place of those that come with the program."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from mailer.cli import run
from mailer.config import Brand
from mailer.errors import ExitCode, SourceError
from mailer.web.theme import Theme
from tests.web.conftest import OpenSite, edition

HEADER = (
    '{% extends "shipped/base.html" %}\n'
    '{% block header %}<a href="/archive/"><img src="/static/logo.svg" alt="{{ newsletter }}"></a>'
    "{% endblock %}\n"
)
LOGO = '<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"/>'


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    (folder / "pages" / "static").mkdir(parents=True)
    (folder / "pages" / "static" / "logo.svg").write_text(LOGO, encoding="utf-8")
    (folder / "secret").write_text("not for readers", encoding="utf-8")
    return folder


def test_frame_is_changed_and_every_page_with_it(open_site: OpenSite, own: Path) -> None:
    (own / "pages" / "base.html").write_text(HEADER, encoding="utf-8")
    (own / "pages" / "style.css").write_text(
        '{% include "shipped/style.css" %}\nheader { border-top: 6px solid var(--accent); }\n',
        encoding="utf-8",
    )
    with open_site(own=own) as site:
        site.issue(edition())
        subscriber = site.subscribe()
        for path in (
            "/subscribe",
            "/archive/",
            "/archive/007-spring",
            f"/p/{site.link(subscriber)}",
            "/nowhere",
        ):
            page = site.client.get(path)
            assert '<img src="/static/logo.svg" alt="The Weekly">' in page.text, path
            assert page.text.count("<main>") == 1, path
            assert "script-src" not in page.headers["content-security-policy"]
        style = site.client.get("/style.css").text
        assert "--accent: #0b6e4f" in style
        assert style.endswith("header { border-top: 6px solid var(--accent); }")
        logo = site.client.get("/static/logo.svg")
        assert (logo.status_code, logo.text) == (200, LOGO)
        assert logo.headers["content-type"] == "image/svg+xml"
        assert logo.headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize(
    "path",
    [
        "/static/../../secret",
        "/static/%2e%2e/%2e%2e/secret",
        "/static/..%2f..%2fsecret",
        "/static//secret",
        "/static/",
    ],
)
def test_only_files_in_the_folder_are_served(open_site: OpenSite, own: Path, path: str) -> None:
    with open_site(own=own) as site:
        answer = site.client.get(path)
        assert answer.status_code == 404
        assert "not for readers" not in answer.text


def test_values_are_escaped_in_pages_of_ones_own(open_site: OpenSite, own: Path) -> None:
    (own / "pages" / "unsubscribe.html").write_text("<p>{{ address }} {{ token }}</p>", encoding="utf-8")
    with open_site(own=own) as site:
        subscriber = site.subscribe("&lt@example.org")
        page = site.client.get(f"/u/{site.link(subscriber)}").text
        assert page.startswith("<p>&amp;•••@example.org ")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"<h1>\n{% if x %}", r"subscribe\.html:2: Unexpected end of template"),
        (b"{{ x | nothing }}", r"subscribe\.html:1: No filter named 'nothing'"),
        (b"\xff", r"subscribe\.html: cannot be read"),
    ],
)
def test_mistakes_are_reported_at_the_start(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: bytes, told: str
) -> None:
    (own / "pages" / "subscribe.html").write_bytes(text)
    with pytest.raises(SourceError, match=told):
        Theme(Brand(), name="The Weekly", language="en", own=own)
    (tmp_path / "config.toml").write_text("[paths]\ntemplates = 'mine'\n", encoding="utf-8")
    for command, code in ((["config", "check"], ExitCode.CONFIGURATION), (["serve"], ExitCode.FAILURE)):
        assert run(["-C", str(tmp_path), *command]) == code
        assert "subscribe.html" in capsys.readouterr().err


@pytest.mark.parametrize("page", ["{{ secrets }}", "{{ ''.__class__.__mro__[1].__subclasses__() }}"])
def test_page_that_fails_is_no_more_than_an_error(open_site: OpenSite, own: Path, page: str) -> None:
    (own / "pages" / "subscribe.html").write_text(page, encoding="utf-8")
    with open_site(own=own) as site:
        answer = site.client.get("/subscribe")
        assert (answer.status_code, "Something went wrong" in answer.text) == (500, True)
        assert httpx.get(f"{site.client.base_url}/archive/").status_code == 200
