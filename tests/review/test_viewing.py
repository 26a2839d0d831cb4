"""What a preview shows is what lint measures and what the mail will be."""

from __future__ import annotations

import base64
import email
import email.policy
import io
import json
import re
from email.message import EmailMessage
from pathlib import Path

import pytest
from PIL import Image

from mailer.cli import run
from mailer.config import load
from mailer.errors import ExitCode, RecipientError
from mailer.rendering.message import Recipient
from mailer.review.viewing import Preview, preview
from tests.end_to_end.newsletter import Folder

ISSUE = """\
---
title: A bean in a jar
subject: A bean for {{ subscriber.name | default("you") }}
preheader: Five questions, {{ subscriber.name | default("reader") }}
---

It takes {{ reading_time }}.

![A jar](jar.png)

A bean wants almost nothing. Read more at [the society of gardeners](https://example.com/beans).
"""


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "news")
    (made.path / "issues" / "001-short.md").unlink()
    (made.path / "issues" / "001-bean.md").write_text(ISSUE, encoding="utf-8")
    Image.new("RGB", (40, 20), "#336699").save(made.path / "issues" / "jar.png")
    return made


def seen(folder: Folder, reader: Recipient | None = None) -> Preview:
    return preview(load(folder.path / "config.toml"), folder.path / "issues" / "001-bean.md", reader)


def part(message: EmailMessage, kind: str) -> str:
    found = message.get_body((kind,))
    assert isinstance(found, EmailMessage)
    return str(found.get_content())


def test_measures_are_those_of_lint_and_of_the_sent_mail(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    previewed = seen(folder)
    at = ["-C", str(folder.path)]
    assert run(["lint", "1", "--format", "json", *at]) == ExitCode.DONE
    linted = json.loads(capsys.readouterr().out)
    report = previewed.report
    for name in ("words", "reading_time", "html_bytes", "text_bytes", "message_bytes"):
        assert (name, getattr(report, name)) == (name, linted[name])
    assert len(previewed.rendered.source.encode()) == report.html_bytes

    assert run(["subscribers", "add", "jo@example.com", "--name", "Jo", *at]) == ExitCode.DONE
    assert run(["send", "1", "--yes", *at]) == ExitCode.DONE
    parsed = email.message_from_bytes(folder.kept()[0], policy=email.policy.default)
    assert isinstance(parsed, EmailMessage)
    as_jo = seen(folder, Recipient(1, "jo@example.com", "Jo"))
    assert part(parsed, "html").count(report.reading_time) == 1
    assert unsigned(part(parsed, "html")) == unsigned(as_jo.rendered.source)
    assert unsigned(part(parsed, "plain")) == unsigned(as_jo.rendered.text)
    assert len(part(parsed, "html").encode()) == as_jo.report.html_bytes
    assert str(parsed["Subject"]) == as_jo.subject == "A bean for Jo"
    assert as_jo.report.words == report.words


def unsigned(text: str) -> str:
    return re.sub(r"/([up])/[\w-]+", r"/\1/…", text)


def test_inbox_shows_subject_and_preheader_as_filled(folder: Folder) -> None:
    shown = seen(folder, Recipient(0, "jo@example.com", "Jo"))
    assert (shown.subject, shown.preheader, shown.reader) == (
        "A bean for Jo",
        "Five questions, Jo",
        "jo@example.com",
    )


@pytest.mark.parametrize("images", ["embed", "publish"])
def test_browser_needs_no_request_for_the_issues_images(folder: Folder, images: str) -> None:
    with (folder.path / "config.toml").open("a") as config:
        config.write(f'[rendering]\nimages = "{images}"\n')
    shown = seen(folder)
    sources = re.findall(r'<img[^>]* src="([^"]+)"', shown.rendered.html)
    assert len(sources) == 1
    kind, _, data = sources[0].partition(";base64,")
    assert Image.open(io.BytesIO(base64.b64decode(data))).get_format_mimetype() == kind.removeprefix("data:")
    assert "data:image" not in shown.rendered.source


def test_reader_without_a_needed_field_is_reported(folder: Folder) -> None:
    path = folder.path / "issues" / "001-bean.md"
    path.write_text("---\ntitle: A bean\n---\n\nOf {{ subscriber.city }}.\n", encoding="utf-8")
    assert "Of Example." in seen(folder).rendered.text
    with pytest.raises(RecipientError, match=r"'subscriber\.city' is missing"):
        seen(folder, Recipient(0, "jo@example.com", "Jo"))


def test_looking_at_a_mail_opens_nothing_on_the_public_pages(folder: Folder) -> None:
    with (folder.path / "config.toml").open("a") as config:
        config.write('[web]\npublic_url = "https://news.example.org"\n[tracking]\nopens = true\n')
    rendered = seen(folder).rendered
    assert "https://news.example.org/o/" in rendered.source
    assert "https://news.example.org/o/" not in rendered.html
