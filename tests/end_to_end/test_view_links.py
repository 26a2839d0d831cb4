"""Where "View in browser" leads: to the archive, or to a page for the recipients of a segment only."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from lxml import html

from mailer.cli import run
from mailer.config import load
from mailer.database.engine import Database
from mailer.tokens import Signer
from mailer.web.app import create_app
from tests.end_to_end.newsletter import PROJECT, Folder
from tests.web.conftest import serving

SITE = "https://news.example.org"
ISSUE = """\
---
title: {title}
date: 2026-03-01
---

Hello {{{{ subscriber.name | default("reader") }}}}, [this page]({{{{ urls.view }}}}) is yours.

![A jar](images/bean-in-a-jar.jpg)
"""
PEOPLE = "email,name,country\nada@example.com,Ada,RO\nbo@example.com,Bo,DE\n"


@pytest.fixture(scope="module", params=["embed", "publish"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A newsletter that sent `001-short` to one of two subscribers and `002-all` to both."""
    settings = f'[web]\npublic_url = "{SITE}"\n[rendering]\nimages = "{request.param}"\n'
    made = Folder(tmp_path_factory.mktemp("view") / "news", settings)
    shutil.copytree(PROJECT / "issues" / "images", made.path / "issues" / "images")
    (made.path / "issues" / "001-short.md").write_text(ISSUE.format(title="Only for some"))
    (made.path / "issues" / "002-all.md").write_text(ISSUE.format(title="For all"))
    (made.path / "people.csv").write_text(PEOPLE)
    for arguments in (
        ["subscribers", "import", str(made.path / "people.csv")],
        ["send", "1", "--to", 'country = "RO"', "--yes"],
        ["send", "2", "--yes"],
    ):
        assert run([*arguments, "-C", str(made.path)]) == 0
    return made


@pytest.fixture(scope="module")
def client(folder: Folder) -> Iterator[httpx.Client]:
    """A client of the newsletter's pages."""
    settings = load(folder.path / "config.toml")
    with Database(settings.paths.database, folder=folder.path) as database:
        database.open()
        app = create_app(database, Signer(database.secrets()), settings)
        with serving(app) as url, httpx.Client(base_url=url) as client:
            yield client


def view_links(folder: Folder, subject: str) -> set[str]:
    """Return the view links of an issue's messages: those in the HTML, and those in the text."""
    found: set[str] = set()
    for raw in folder.kept():
        message = message_from_bytes(raw, policy=default)
        assert isinstance(message, EmailMessage)
        if message["Subject"] != subject:
            continue
        plain, rich = (message.get_body(preferencelist=(kind,)) for kind in ("plain", "html"))
        assert isinstance(plain, EmailMessage)
        assert isinstance(rich, EmailMessage)
        text = plain.get_content()
        in_text = set(re.findall(rf"{re.escape(SITE)}/(?:archive|v)/[\w-]+", text))
        page = html.fromstring(rich.get_content())
        in_html = links(page, "this page", "View in browser")
        assert in_text == in_html
        found |= in_html
    return found


def links(page: html.HtmlElement, *texts: str) -> set[str]:
    """Return where the links with one of these texts lead."""
    return {one.get("href", "") for one in page.iter("a") if str(one.text_content()).strip() in texts}


def shown(client: httpx.Client, link: str) -> tuple[str | None, set[str], list[int]]:
    """Return the heading, the links to itself and the status of each image of the page at a link."""
    assert link.startswith(f"{SITE}/")
    answer = client.get(urlsplit(link).path)
    assert answer.status_code == 200
    page = html.fromstring(answer.content)
    images = [urljoin(urlsplit(link).path, one.get("src", "")) for one in page.iter("img")]
    return page.findtext(".//h1"), links(page, "this page"), [client.get(one).status_code for one in images]


def test_link_of_an_issue_for_a_segment_opens_a_page_for_its_recipients(
    folder: Folder, client: httpx.Client
) -> None:
    assert client.get("/archive/001-short").status_code == 404
    (link,) = view_links(folder, "Only for some")
    assert re.fullmatch(rf"{re.escape(SITE)}/v/[0-9a-f]+", link)
    assert shown(client, link) == ("Only for some", {link}, [200])


def test_link_of_an_issue_for_everybody_leads_to_the_archive(folder: Folder, client: httpx.Client) -> None:
    archived = f"{SITE}/archive/002-all"
    assert view_links(folder, "For all") == {archived}
    assert shown(client, archived) == ("For all", {archived}, [200])


def test_canary_members_can_view_the_issue_before_the_archive_shows_it(tmp_path: Path) -> None:
    made = Folder(tmp_path / "news", f'[web]\npublic_url = "{SITE}"\n[canary]\nwait = "PT1S"\n')
    (made.path / "issues" / "001-short.md").write_text(
        ISSUE.format(title="First for some").replace("![A jar](images/bean-in-a-jar.jpg)", "")
    )
    (made.path / "people.csv").write_text(PEOPLE)
    assert run(["subscribers", "import", str(made.path / "people.csv"), "-C", str(made.path)]) == 0
    assert run(["send", "1", "--canary", "1%", "--yes", "-C", str(made.path)]) == 0
    kinds = sorted(urlsplit(link).path.split("/")[1] for link in view_links(made, "First for some"))
    assert kinds == ["archive", "v"]
