"""The preview: its views, its access rules, and reloading after each save."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mailer.config import Brand, load
from mailer.errors import MailerError
from mailer.rendering.lint import CHECKS
from mailer.rendering.message import Recipient
from mailer.review.viewing import Preview, preview
from mailer.web.operator.preview import create_preview_app
from mailer.web.operator.watching import FileWatcher
from tests.end_to_end.newsletter import Folder
from tests.web.conftest import NO_TLS, serving

ISSUE = """\
---
title: A bean <b>in</b> a jar
preheader: Five questions
---

Hello {{ subscriber.name | default("you") }}, read [this](/beans).
"""


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "news")
    save(made, ISSUE)
    return made


def save(folder: Folder, text: str) -> None:
    (folder.path / "issues" / "001-short.md").write_text(text, encoding="utf-8")


def looking(folder: Folder, address: str) -> Preview:
    if address == "nobody@example.org":
        raise MailerError(
            "nobody@example.org: not a subscriber",
            remedy="list the subscribers with: mailer subscribers list",
        )
    reader = Recipient(0, address, "Jo") if address else None
    return preview(load(folder.path / "config.toml"), folder.path / "issues" / "001-short.md", reader)


@pytest.fixture
def client(folder: Folder) -> Iterator[httpx.Client]:
    changes = FileWatcher(
        [folder.path / "issues", folder.path / "email_templates"], [folder.path / "config.toml"]
    )
    app = create_preview_app(
        lambda address: looking(folder, address), changes, name="The Weekly", brand=Brand()
    )
    with serving(app) as url, httpx.Client(base_url=url, timeout=30, verify=NO_TLS) as opened:
        yield opened


def frame_of(page: str) -> tuple[str, str]:
    """Return the rights and the address of the frame."""
    found = re.search(r'<iframe[^>]* sandbox="([^"]*)" src="([^"]*)"></iframe>', page)
    assert found is not None
    return found[1], found[2].replace("&amp;", "&")


def policy(answer: httpx.Response) -> dict[str, str]:
    """Return the Content-Security-Policy, its sources by directive."""
    parts = (part.strip().partition(" ") for part in answer.headers["content-security-policy"].split(";"))
    return {name: sources for name, _, sources in parts}


def test_message_is_shown_in_a_frame_without_scripts(client: httpx.Client) -> None:
    page = client.get("/")
    rights, source = frame_of(page.text)
    assert "allow-scripts" not in rights
    mail = client.get(source)
    assert mail.status_code == 200
    assert "read <a" in mail.text
    rules = policy(mail)
    assert (rules["default-src"], rules["sandbox"], rules["frame-ancestors"]) == ("'none'", rights, "'self'")
    assert "script-src" not in rules


def test_page_runs_its_own_script_alone(client: httpx.Client) -> None:
    first, second = client.get("/"), client.get("/")
    nonces = [re.findall(r'<script nonce="([^"]+)"', page.text) for page in (first, second)]
    assert nonces[0] != nonces[1]
    for page, found in zip((first, second), nonces, strict=True):
        rules = policy(page)
        assert (rules["default-src"], rules["script-src"]) == ("'none'", f"'nonce-{found[0]}'")
        assert page.text.count("<script") == 1
    assert "<b>in</b>" not in first.text


def test_schemes_and_images_off_are_addresses(client: httpx.Client) -> None:
    dark = client.get("/mail?scheme=dark").text
    light = client.get("/mail").text
    assert "prefers-color-scheme" not in dark + light
    assert "color-scheme: dark !important" in dark
    assert "color-scheme: light !important" in light
    assert policy(client.get("/mail?images=off"))["img-src"] == "'none'"
    page = client.get("/?view=phone&scheme=dark&images=off").text
    assert frame_of(page)[1].startswith("/mail?view=phone&as=&scheme=dark&images=off&state=")
    assert 'class="stage phone dark"' in page


def test_unknown_view_is_the_desktop(client: httpx.Client) -> None:
    assert 'class="stage desktop light"' in client.get("/?view=nonsense&scheme=no&images=maybe").text


def test_text_source_and_headers_are_shown_as_they_are_sent(client: httpx.Client, folder: Folder) -> None:
    shown = looking(folder, "")
    text = client.get("/?view=text").text
    assert "Hello Reader, read this" in text
    assert "&lt;!DOCTYPE html&gt;" in client.get("/?view=source").text
    headers = client.get("/?view=headers").text
    assert [name for name, _ in shown.rendered.headers] == re.findall(
        r'<th scope="row">([^<]+)</th>', headers
    )
    assert client.get("/message.eml").content == shown.rendered.message


def test_measures_and_findings_are_shown_beside_the_message(client: httpx.Client, folder: Folder) -> None:
    page = client.get("/").text
    report = looking(folder, "").report
    assert f"<b>{report.html_bytes / 1000:.1f} KB</b> of HTML" in page
    assert f"{report.words} words, {report.reading_time} to read" in page
    places = re.findall(r'line (\d+), column (\d+)</span><a href="/lint/([\w-]+)"', page)
    assert places == [("6", "52", "vague-link"), ("6", "59", "relative-link")]
    for finding in report.findings:
        assert f'href="/lint/{finding.check}"' in page


def test_each_finding_leads_to_the_page_of_its_check(client: httpx.Client, folder: Folder) -> None:
    save(folder, ISSUE + "\n[Offer](http://example.org/offer)\n")
    links = set(re.findall(r'href="(/lint/[a-z-]+)"', client.get("/").text))
    assert "/lint/insecure-link" in links
    for link in links:
        answer = client.get(link)
        assert (answer.status_code, f"<h1>{link.removeprefix('/lint/')}</h1>" in answer.text) == (200, True)
        assert policy(answer)["default-src"] == "'none'"
    assert client.get("/lint/nothing").status_code == 404
    assert client.get("/lint/..%2f..%2fREADME").status_code == 404


def test_every_check_has_a_page(client: httpx.Client) -> None:
    for check in CHECKS:
        assert (check, client.get(f"/lint/{check}").status_code) == (check, 200)


def test_any_subscriber_can_be_looked_over_the_shoulder(client: httpx.Client) -> None:
    query = "/?view=text&as=jo%40example.org"
    assert "Hello Jo, read" in client.get(query).text
    assert "Hello Jo, read" in client.get("/mail?as=jo%40example.org").text
    page = client.get("/?as=nobody%40example.org")
    assert "<code>nobody@example.org: not a subscriber</code>" in page.text
    assert "list the subscribers with: mailer subscribers list" in page.text


def test_broken_issue_is_shown_until_it_is_fixed(client: httpx.Client, folder: Folder) -> None:
    with client.stream("GET", "/events") as events:
        lines = (line for line in events.iter_lines() if line.startswith("data: "))
        begun = next(lines)
        save(folder, "---\ntitel: A bean\n---\n\nHello\n")
        broken = next(lines)
        page = client.get("/").text
        assert f'data-state="{broken.removeprefix("data: ")}"' in page
        assert "001-short.md:2: unknown key &#39;titel&#39;" in page
        assert "did you mean &#39;title&#39;?" in page
        assert client.get("/mail").status_code == 409
        save(folder, ISSUE.replace("Hello", "Good day"))
        fixed = next(lines)
        assert "Good day" in client.get(frame_of(client.get("/").text)[1]).text
    assert len({begun, broken, fixed}) == 3


@pytest.mark.parametrize(
    ("broken", "text", "said"),
    [
        ("config.toml", "[newsletter]\nnmae = 'x'\n", "config.toml"),
        (
            "email_templates/partials/footer.mjml.j2",
            "<mj-txet>{{ newsletter.name }}</mj-txet>",
            "&lt;mj-text&gt;",
        ),
        ("issues/001-short.md", ISSUE + "![A jar](no.png)\n", "001-short.md:7: there is no image"),
    ],
)
def test_errors_are_shown_with_their_place(
    client: httpx.Client, folder: Folder, broken: str, text: str, said: str
) -> None:
    path = folder.path / broken
    before = path.read_bytes()
    path.write_text(text, encoding="utf-8")
    page = client.get("/").text
    assert "This cannot be rendered yet" in page
    assert said in page
    path.write_bytes(before)
    assert "This cannot be rendered yet" not in client.get("/").text


@pytest.mark.parametrize(
    "saved", ["email_templates/partials/footer.mjml.j2", "config.toml", "issues/jar.png"]
)
def test_every_file_that_a_mail_is_made_of_is_followed(
    client: httpx.Client, folder: Folder, saved: str
) -> None:
    path = folder.path / saved
    with client.stream("GET", "/events") as events:
        lines = (line for line in events.iter_lines() if line.startswith("data: "))
        begun = next(lines)
        # As editors save: a new file takes the old one's place.
        beside = folder.path / "saving"
        beside.write_bytes((path.read_bytes() if path.exists() else b"") + b"\n")
        beside.replace(path)
        assert next(lines) != begun


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:1234", 200),
        ("[::1]:1234", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example:80", 421),
    ],
)
def test_other_hosts_names_are_refused(client: httpx.Client, host: str, status: int) -> None:
    for path in ("/", "/mail", "/message.eml", "/preview.js"):
        assert (path, client.get(path, headers={"host": host}).status_code) == (path, status)


@pytest.mark.parametrize("path", ["/config.toml", "/..%2fconfig.toml", "/pages/base.html", "/docs"])
def test_nothing_else_is_served(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 404


def test_nothing_is_kept_by_browsers_or_read_by_other_sites(client: httpx.Client) -> None:
    for path in ("/", "/mail", "/message.eml"):
        answer = client.get(path)
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers
