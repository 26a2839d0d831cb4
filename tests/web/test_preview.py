"""`mailer preview`: every form of an issue, the same figures as lint's, and nobody else's eyes."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

import httpx
import pytest
from PIL import Image

from mailer.config import Brand, load
from mailer.delivery import viewing
from mailer.errors import RecipientError
from mailer.rendering.message import Recipient
from mailer.web.preview import Live, create_preview_app, shown
from tests.end_to_end.newsletter import Folder
from tests.programs import program
from tests.web.conftest import serving

ISSUE = """\
---
title: Colours
preheader: Three of them
---

Hello {{ subscriber.name | default("there") }} of {{ subscriber.city | default("nowhere") }}.

![A red square](red.png)

[Here](https://example.org/page)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "news")
    (made.path / "issues" / "001-short.md").write_text(ISSUE, encoding="utf-8")
    Image.new("RGB", (800, 400), "#cc2222").save(made.path / "issues" / "red.png")
    return made


@pytest.fixture
def live(folder: Folder) -> Iterator[Live]:
    path = folder.path / "issues" / "001-short.md"
    with Live(lambda: viewing.preview(load(folder.path / "config.toml"), path), [path.parent]) as made:
        yield made


@pytest.fixture
def client(live: Live) -> Iterator[httpx.Client]:
    with (
        serving(create_preview_app(live, brand=Brand())) as url,
        httpx.Client(base_url=url, timeout=30) as opened,
    ):
        yield opened


@pytest.mark.parametrize("view", ["desktop", "phone", "text", "source", "headers", "nonsense"])
def test_each_form_is_a_page_without_rights_for_the_mail(client: httpx.Client, view: str) -> None:
    page = client.get("/", params={"view": view})
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    frames = re.findall(r"<iframe[^>]*>", page.text)
    assert len(frames) == (1 if view in ("desktop", "phone", "nonsense") else 0)
    assert all(" sandbox " in frame for frame in frames)


def test_mail_runs_nothing_and_fetches_nothing_of_ours(client: httpx.Client) -> None:
    with_images = client.get("/mail").headers["content-security-policy"]
    assert with_images.startswith("sandbox; default-src 'none'")
    assert "script" not in with_images
    assert with_images.endswith("img-src data: https:")
    without = client.get("/mail", params={"images": "0"})
    assert without.headers["content-security-policy"].endswith("img-src 'none'")
    assert re.search(r'src="data:image/(png|jpeg);base64,', without.text)
    assert "cid:" not in without.text


def test_another_host_name_is_refused(client: httpx.Client) -> None:
    assert client.get("/", headers={"host": "evil.example"}).status_code == 421
    assert client.get("/mail", headers={"host": "evil.example:8602"}).status_code == 421


def test_figures_are_those_of_lint_and_of_the_sent_mail(folder: Folder, client: httpx.Client) -> None:
    lint = folder.mailer("lint", "1", "--format", "json").json
    page = client.get("/").text
    assert f"{lint['words']:,} words, {lint['reading_time']} to read." in page
    assert f"Text {lint['text_bytes'] / 1000:.1f} kB" in page.replace(f"{lint['text_bytes']} B", "") or (
        f"Text {lint['text_bytes']} B" in page
    )
    message = client.get("/message.eml").content
    assert len(message) == lint["message_bytes"]
    folder.subscribe(1)
    assert folder.mailer("send", "1", "--yes").code == 0
    (sent,) = folder.kept()
    ours, theirs = (message_from_bytes(raw, policy=default) for raw in (message, sent))
    assert isinstance(ours, EmailMessage)
    assert isinstance(theirs, EmailMessage)
    for kind in ("plain", "html"):
        mine, other = ours.get_body((kind,)), theirs.get_body((kind,))
        assert mine is not None
        assert other is not None
        # All but the reader's own name and links.
        words = [
            re.sub(r"https?://\S+|Reader|Name 1|Example|nowhere", "", part.get_content())
            for part in (mine, other)
        ]
        assert words[0].split() == words[1].split()


def test_every_save_is_seen_and_a_broken_issue_says_where(
    folder: Folder, live: Live, client: httpx.Client
) -> None:
    path = folder.path / "issues" / "001-short.md"
    before = client.get("/version").json()["version"]
    path.write_text(ISSUE.replace("{{ subscriber.name", "{{ nobody.name"), encoding="utf-8")
    now = _changed(client, before)
    broken = client.get("/").text
    assert "cannot be rendered" in broken
    assert "001-short.md:6" in broken
    path.write_text(ISSUE.replace("Colours", "Shades"), encoding="utf-8")
    _changed(client, now)
    assert "<h1>Shades</h1>" in client.get("/").text


def _changed(client: httpx.Client, before: int) -> int:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        version: int = client.get("/version").json()["version"]
        if version != before:
            # More of the same save may be noticed a moment later.
            time.sleep(0.5)
            return int(client.get("/version").json()["version"])
        time.sleep(0.05)
    raise AssertionError("the change was not noticed")


def test_light_and_dark_are_shown_whatever_the_browser_prefers() -> None:
    html = (
        "<style>:root { color-scheme: light dark; } @media (prefers-color-scheme: dark) { a { color: red } }"
    )
    assert "color-scheme: dark;" in shown(html, dark=True)
    assert "@media (min-width: 0)" in shown(html, dark=True)
    assert "@media (max-width: 0)" in shown(html, dark=False)


def test_as_a_subscriber(folder: Folder) -> None:
    path, settings = folder.path / "issues" / "001-short.md", load(folder.path / "config.toml")
    reader = Recipient(7, "ada@example.org", "Ada", {"city": "Turin"})
    seen = viewing.preview(settings, path, reader)
    assert "Hello Ada of Turin." in seen.viewed.text
    assert seen.reader == "ada@example.org"
    path.write_text(ISSUE.replace(' | default("nowhere")', ""), encoding="utf-8")
    with pytest.raises(RecipientError, match=r"subscriber\.city"):
        viewing.preview(settings, path, Recipient(7, "ada@example.org", "Ada"))
    assert "Hello Reader of Example." in viewing.preview(settings, path).viewed.text


def test_unknown_subscriber_is_said(folder: Folder) -> None:
    ran = folder.mailer("preview", "1", "--as", "nobody@example.org")
    assert ran.code == 6
    assert "nobody@example.org: no such subscriber" in ran.err


@pytest.mark.servers
@pytest.mark.xdist_group("chromium")
def test_screenshots_are_as_wide_as_the_mail(folder: Folder, tmp_path: Path) -> None:
    program("chromium", "chromium-browser")
    ran = folder.mailer("preview", "1", "--screenshot", str(tmp_path / "shots"))
    assert ran.code == 0, ran.err
    pictures = [Path(line) for line in ran.out.splitlines()]
    assert len(pictures) == 8
    for picture in pictures:
        with Image.open(picture) as image:
            assert image.width == (375 if "-375-" in picture.name else 700)
            assert 300 < image.height < 4000
            reds = sum(
                count for count, colour in image.getcolors(1 << 24) or () if colour == (0xCC, 0x22, 0x22)
            )
            assert (reds > 1000) == ("images-off" not in picture.name)
