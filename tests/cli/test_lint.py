"""`mailer lint`, and how it stops `mailer send`."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from mailer.cli import run
from mailer.errors import ExitCode
from mailer.review import chromium
from tests.conftest import PROJECT, program
from tests.end_to_end.newsletter import Folder

GOOD = """\
---
title: A bean in a jar
preheader: Five questions about growing things
---

A bean wants almost nothing. Read more at [the society of gardeners](https://example.com/beans).
"""
WARNED = GOOD.replace("https://example.com", "http://example.com")
WRONG = GOOD.replace("https://example.com/beans", "/beans")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "news")


def lint(folder: Folder, issue: str, *options: str) -> int:
    path = folder.path / "issues" / "002-bean.md"
    path.write_text(issue, encoding="utf-8")
    return run(["lint", "002-bean", *options, "-C", str(folder.path)])


def test_good_issue_has_no_findings_and_shows_its_sizes(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lint(folder, GOOD, "--strict") == ExitCode.DONE
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "002-bean: nothing found"
    assert out[1].startswith("17 words, 1 minute to read; HTML ")


def test_error_is_shown_at_its_place_and_fails(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    assert lint(folder, WRONG) == ExitCode.FINDINGS
    out = capsys.readouterr().out
    where = folder.path / "issues" / "002-bean.md"
    assert out.splitlines()[:4] == [
        f"{where}:6:70: error relative-link: '/beans' has no host",
        "  6 | A bean wants almost nothing. Read more at [the society of gardeners](/beans).",
        "    |" + " " * 70 + "^^^^^^",
        "  = write the whole address, from https:// on",
    ]
    assert "002-bean: 1 error; mailer send will refuse it" in out


def test_warning_fails_only_under_strict(folder: Folder) -> None:
    assert lint(folder, WARNED) == ExitCode.DONE
    assert lint(folder, WARNED, "--strict") == ExitCode.FINDINGS


def test_json_is_one_object(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    lint(folder, WRONG, "--format", "json")
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert told["version"] == 1
    assert (told["errors"], told["warnings"], told["words"]) == (1, 0, 17)
    [finding] = told["findings"]
    assert (finding["check"], finding["level"], finding["line"]) == ("relative-link", "error", 6)


def test_junit_has_a_failure_for_what_fails(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    lint(folder, WARNED, "--format", "junit")
    suite = ElementTree.fromstring(capsys.readouterr().out)
    assert suite.get("failures") == "0"
    lint(folder, WARNED, "--format", "junit", "--strict")
    suite = ElementTree.fromstring(capsys.readouterr().out)
    [failed] = [case for case in suite if case.find("failure") is not None]
    assert suite.get("failures") == "1"
    assert suite.get("tests") == str(len(suite))
    assert (failed.get("name"), failed.get("line")) == ("insecure-link", "6")


def test_waived_finding_is_skipped_with_its_reason(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    waived = WARNED.replace("title:", "lint: {ignore: {insecure-link: no TLS there}}\ntitle:")
    assert lint(folder, waived, "--strict", "--format", "junit") == ExitCode.DONE
    suite = ElementTree.fromstring(capsys.readouterr().out)
    [skipped] = [case.find("skipped") for case in suite if case.find("skipped") is not None]
    assert skipped is not None
    assert str(skipped.get("message")).endswith("(waived: no TLS there)")


def test_fields_without_a_default_get_a_value_in_the_sample(folder: Folder) -> None:
    issue = GOOD.replace(
        "A bean wants", "In {{ subscriber.city }} since {{ subscriber.years | round }} years it wants"
    )
    assert lint(folder, issue) == ExitCode.DONE


def test_links_are_asked_only_on_request(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    inside = GOOD.replace("https://example.com/beans", "http://10.0.0.1/beans")
    waived = inside.replace("title:", "lint: {ignore: {insecure-link: no TLS there}}\ntitle:")
    assert lint(folder, waived) == ExitCode.DONE
    assert lint(folder, waived, "--links") == ExitCode.FINDINGS
    assert "dead-link: http://10.0.0.1/beans: 10.0.0.1 is 10.0.0.1, which is not" in capsys.readouterr().out


def test_field_that_subscribers_lack_is_found_for_the_whole_audience(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    people = folder.path / "people.csv"
    people.write_text(
        "email,name,city\nana@example.com,Ana,Cluj\nbo@example.com,Bo,\nci@example.com,Ci,\n",
        encoding="utf-8",
    )
    assert run(["subscribers", "import", str(people), "-C", str(folder.path)]) == ExitCode.DONE
    issue = GOOD.replace("A bean wants", "In {{ subscriber.city }} a bean wants")
    assert lint(folder, issue) == ExitCode.DONE
    capsys.readouterr()
    assert lint(folder, issue, "--audience") == ExitCode.FINDINGS
    out = capsys.readouterr().out
    assert "undefined-field: 'subscriber.city' is missing for 2 of 3 subscribers" in out
    assert "bo@example.com" in out
    assert ":6:7: error" in out
    defaulted = issue.replace("city }}", 'city | default("town") }}')
    assert lint(folder, defaulted, "--audience") == ExitCode.DONE
    assert "rendered for 3 subscribers" in capsys.readouterr().out


def test_audience_is_that_of_the_segment(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.subscribe(3)
    assert lint(folder, GOOD, "--audience", "--to", "tag:vip") == ExitCode.DONE
    assert "rendered for 0 subscribers" in capsys.readouterr().out


def test_sample_issue_has_no_finding(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lint", "1", "--strict", "--format", "json", "-C", str(PROJECT)]) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out)["findings"] == []


def test_send_refuses_an_issue_with_errors(folder: Folder) -> None:
    folder.subscribe(2)
    (folder.path / "issues" / "002-bean.md").write_text(WRONG, encoding="utf-8")
    refused = folder.mailer("send", "2", "--yes")
    assert refused.code == ExitCode.FINDINGS
    assert "relative-link" in refused.err
    assert "--no-lint" in refused.err
    assert folder.kept() == []
    assert folder.mailer("send", "2", "--yes", "--no-lint").code == ExitCode.DONE
    assert len(folder.kept()) == 2


def test_queued_issue_is_not_linted_again(folder: Folder) -> None:
    folder.subscribe(2)
    issue = folder.path / "issues" / "002-bean.md"
    issue.write_text(GOOD, encoding="utf-8")
    assert folder.mailer("send", "2", "--yes").code == ExitCode.DONE
    issue.write_text(WRONG, encoding="utf-8")
    again = folder.mailer("send", "2", "--yes")
    assert again.code == ExitCode.DONE
    assert "The version frozen then is sent" in again.err


def test_browser_is_asked_only_on_request(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(chromium, "NAMES", ("no-such-browser",))
    assert lint(folder, GOOD) == ExitCode.DONE
    assert lint(folder, GOOD, "--browser") == ExitCode.CONFIGURATION
    assert "there is no Chromium on this machine" in capsys.readouterr().err


@pytest.mark.servers
def test_issue_that_fits_passes_in_chromium(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    program(*chromium.NAMES)
    assert lint(folder, GOOD, "--browser") == ExitCode.DONE
    assert "measured with Chromium" in capsys.readouterr().out
