"""SpamAssassin's score, from a real spamd without network rules."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailer.config import load
from mailer.delivery import editions
from mailer.rendering.source import read_issue
from mailer.review import linting
from mailer.review.spam import SpamScore, parse_report, spam_score
from tests.conftest import program
from tests.end_to_end.newsletter import Folder
from tests.ports import free_port

# The string by which every SpamAssassin calls a message spam, so that set-ups can be tried.
GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """What spamc needs to find a spamd that asks nobody."""
    program("spamc")
    folder, port = tmp_path_factory.mktemp("spamd"), free_port()
    folder.chmod(0o755)
    command = [program("spamd"), "--local", "--nouser-config", "--max-children=1", "-i", "127.0.0.1"]
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(
            [*command, "-p", str(port), "-u", "nobody", "-s", "stderr"], stdout=log, stderr=log
        )
        found = ["-p", str(port)]
        try:
            deadline = time.monotonic() + 60
            while spam_score(b"Subject: x\n\nHello\n", options=found) is None:
                assert daemon.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.2)
            yield found
        finally:
            daemon.terminate()
            daemon.wait(30)


def test_seed_is_not_spam(options: list[str], seed: Path, tmp_path: Path) -> None:
    settings = load(Folder(tmp_path / "news").path / "config.toml")
    score = spam_score(linting.sample_message(settings, editions.build(settings, seed)), options=options)
    assert score is not None
    assert score.score <= 0.0, score.rules
    assert score.required == 5.0


def test_spam_is_a_finding_that_names_the_rules(options: list[str], tmp_path: Path) -> None:
    folder = Folder(tmp_path / "news")
    path = folder.path / "issues" / "001-short.md"
    path.write_text(path.read_text(encoding="utf-8") + f"\n`{GTUBE}`\n", encoding="utf-8")
    settings = load(folder.path / "config.toml")
    issue, edition = read_issue(path), editions.build(settings, path)
    report = linting.examine(settings, issue, edition)
    message = linting.sample_message(settings, edition)
    judged, score = linting.with_spam_score(report, issue, message, options=options)
    assert score is not None
    assert score.score > 900
    [finding] = [finding for finding in judged.findings if finding.check == "spam-score"]
    assert "GTUBE 1000" in finding.message


def test_no_spamd_is_no_score() -> None:
    program("spamc")
    assert spam_score(b"Subject: x\n\nHello\n", options=["-p", str(free_port())]) is None


def test_report_of_spamc_is_read() -> None:
    report = (
        b"3.1/5.0\nContent analysis details:   (3.1 points, 5.0 required)\n\n pts rule name\n"
        b"---- ---------------------- ----\n-0.0 NO_RELAYS              Informational\n"
        b" 3.1 LOUD_SUBJECT           Subject is in capitals\n"
    )
    expected = SpamScore(3.1, 5.0, (("LOUD_SUBJECT", 3.1), ("NO_RELAYS", -0.0)))
    assert parse_report(report) == expected
    assert parse_report(b"0/0\n") is None
    assert parse_report(b"") is None
