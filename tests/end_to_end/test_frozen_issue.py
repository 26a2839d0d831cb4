"""An issue whose sending began stays what it was, whatever happens to its templates."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from mailer.config import load
from mailer.database.session import Database
from mailer.delivery import dispatch
from tests.end_to_end.newsletter import Folder


def test_template_changed_after_the_issue_was_queued_changes_nothing(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "news")
    folder.subscribe(3)
    settings = load(folder.path / "config.toml")
    database = Database(settings.paths.database, folder=folder.path)
    database.open()
    issue = folder.path / "issues" / "001-short.md"
    dispatch.enqueue(
        settings,
        database,
        dispatch.build(settings, issue),
        issue,
        "",
        at=datetime.now(UTC).replace(microsecond=0),
    )
    footer = folder.path / "email_templates" / "partials" / "footer.mjml.j2"
    footer.write_text(footer.read_text().replace("You receive this", "Somebody receives this"))
    sent = folder.mailer("send", "001-short", "--yes")
    assert sent.code == 0, sent.err
    assert folder.books()["sent"] == 3
    mails = folder.kept()
    assert [b"You receive this" in mail for mail in mails] == [True] * 3
    assert [b"Somebody receives this" in mail for mail in mails] == [False] * 3
