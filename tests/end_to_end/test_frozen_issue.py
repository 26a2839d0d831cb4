"""An issue whose sending began stays what it was, whatever happens to what it was made of."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

from mailer.config import load
from mailer.database.engine import Database
from mailer.delivery import editions, enqueueing
from tests.end_to_end.newsletter import PROJECT, Folder


def test_changes_after_the_issue_was_queued_do_not_affect_it(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "news")
    issue = folder.path / "issues" / "001-short.md"
    images = Path(shutil.copytree(PROJECT / "issues" / "images", issue.parent / "images"))
    issue.write_text("---\ntitle: Before\n---\n\nHello.\n\n![A jar](images/bean-in-a-jar.jpg)\n")
    folder.subscribe(3)
    settings = load(folder.path / "config.toml")
    edition = editions.build(settings, issue)
    at = datetime.now(UTC).replace(microsecond=0)
    with Database(settings.paths.database, folder=folder.path) as database:
        database.open()
        enqueueing.enqueue(settings, database, edition, issue, "", at=at)

    for template in (folder.path / "email_templates").rglob("*.j2"):
        template.write_text("{% broken")
    (images / "bean-in-a-jar.jpg").unlink()
    issue.write_text("---\ntitle: After\n---\n\nSomething else.\n")
    with (folder.path / "config.toml").open("a") as config:
        config.write('\n[brand]\naccent = "#b00020"\n')

    sent = folder.mailer("send", "001-short", "--yes")
    assert sent.code == 0, sent.err
    assert folder.books()["sent"] == 3
    mails = folder.kept()
    for said, times in ((b"You are receiving", 3), (b"Subject: Before", 3), (b"b00020", 0), (b"After", 0)):
        assert sum(said in mail for mail in mails) == times
    assert len(edition.images) == 1
    assert [mail.count(b"Content-ID: <" + edition.images[0].content_id.encode()) for mail in mails] == [1] * 3
