"""The file of an issue: its front matter and where its body begins."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.errors import SourceError
from mailer.rendering.edition import ABTest
from mailer.rendering.source import parse_issue, read_issue

PATH = Path("issues/007-spring.md")


def test_issue_is_read_whole() -> None:
    issue = parse_issue(
        '---\ntitle: "Spring: at last"\nsubtitle: It thaws\ndate: 2026-03-01\nnumber: 7\n'
        "tags: [plants, poems]\npreheader: Look\n---\n\nHello.\n",
        PATH,
    )
    assert (issue.slug, issue.title, issue.subtitle) == ("007-spring", "Spring: at last", "It thaws")
    assert (issue.date, issue.number) == (datetime.date(2026, 3, 1), 7)
    assert issue.tags == ("plants", "poems")
    assert issue.subject == "Spring: at last"
    assert issue.body.strip() == "Hello."
    assert issue.line_of("number") == 5


def test_arms_of_a_test_are_read() -> None:
    issue = parse_issue(
        "---\ntitle: T\nsubject: [one, two]\ntest: {share: 30%, wait: PT2H, by: opens, hold: true}\n---\n",
        PATH,
    )
    assert (issue.subject, issue.other_subjects) == ("one", ("two",))
    assert issue.test == ABTest(share=0.3, wait_seconds=7200, by="opens", hold=True)
    assert parse_issue("---\ntitle: T\narms: [arms/b.md]\n---\n", PATH).other_files == ("arms/b.md",)


def test_braces_of_a_title_are_no_template_in_the_subject() -> None:
    assert parse_issue('---\ntitle: "{{ x }}"\n---\n', PATH).subject == "{{ '{' }}{ x }}"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_of_any_system_are_read(end: str) -> None:
    issue = parse_issue(end.join(["---", "title: A", "---", "one", "two"]), PATH)
    assert (issue.body, issue.body_line) == ("one\ntwo", 4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Hello.", ":1: the front matter is missing"),
        ("---\nsubtitle: x\n---\n", "'title' is missing"),
        ("---\ntitle: ''\n---\n", ":2: 'title' is empty"),
        ("---\ntitle: a\ntitel: b\n---\n", ":3: "),
        ("---\ntitle: a\ndate: soon\n---\n", ":3: "),
        ("---\ntitle: a\nnumber: many\n---\n", ":3: "),
        ("---\ntitle: a\n---\nb\x00c", ":4: control character U+0000"),
        ("---\ntitle: [a\n---\n", ":"),
        ("---\ntitle: a\nsubject: [one]\n---\n", ":3: 'subject' cannot be ['one']"),
        ("---\ntitle: a\nsubject: [one, one]\n---\n", ":3: 'subject' cannot be"),
        ("---\ntitle: a\nsubject: [1, 2, 3, 4, 5]\n---\n", ":3: 'subject' cannot be"),
        ("---\ntitle: a\nsubject: [a, b]\narms: [c.md]\n---\n", ":4: an A/B test has either"),
        ("---\ntitle: a\narms: [../c.md]\n---\n", ":3: 'arms' cannot be '../c.md'"),
        ("---\ntitle: a\narms: [/c.md]\n---\n", ":3: 'arms' cannot be '/c.md'"),
        ("---\ntitle: a\narms: [c.md, c.md]\n---\n", ":3: 'arms' cannot be 'c.md'"),
        ("---\ntitle: a\narms: [a.md, b.md, c.md, d.md]\n---\n", ":3: 'arms' cannot be"),
        ("---\ntitle: a\ntest: {share: 20%}\n---\n", ":3: there is nothing to test"),
        ("---\ntitle: a\nsubject: [a, b]\ntest: {share: 120%}\n---\n", ":4: 'test' cannot be"),
        ("---\ntitle: a\nsubject: [a, b]\ntest: {wait: soon}\n---\n", ":4: 'test' cannot be"),
        ("---\ntitle: a\nsubject: [a, b]\ntest: {by: luck}\n---\n", ":4: 'test' cannot be"),
    ],
)
def test_mistake_is_reported_with_file_and_line(text: str, said: str) -> None:
    with pytest.raises(SourceError) as caught:
        parse_issue(text, PATH)
    assert caught.value.message.startswith(str(PATH))
    assert said in caught.value.message


def test_file_that_is_not_utf_8_is_reported_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_bytes(b"---\ntitle: a\n---\n\xff")
    with pytest.raises(SourceError, match=r"a\.md:4: not UTF-8"):
        read_issue(path)


def test_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"none\.md: No such file"):
        read_issue(tmp_path / "none.md")


@given(st.text(max_size=300))
def test_any_text_is_an_issue_or_a_clear_error(text: str) -> None:
    place = ""
    try:
        parse_issue(text, PATH)
    except SourceError as error:
        place = error.message
    assert place == "" or place.startswith(str(PATH))
