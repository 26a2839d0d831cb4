"""The report: places, waivers, measures."""

from __future__ import annotations

from mailer.rendering.lint import Level
from tests.rendering.lint.scene import HTML, SOURCE, edition, found, linted

BAD_LINK = HTML.replace("https://example.com/beans", "http://example.com/beans")
BAD_SOURCE = SOURCE.replace("https://example.com/beans", "http://example.com/beans")


def test_finding_says_where_the_author_wrote_it() -> None:
    [finding] = linted(BAD_LINK, source=BAD_SOURCE).findings
    assert finding.place == "issues/001.md:8:41"
    assert finding.snippet == "Read more at [the society of gardeners](http://example.com/beans)."
    assert finding.width == len("http://example.com/beans")


def test_second_finding_of_the_same_link_is_placed_at_the_second() -> None:
    source = BAD_SOURCE + "\nAgain [the society](http://example.com/beans).\n"
    html = BAD_LINK.replace("<!-- more -->", '<a href="http://example.com/beans">the society</a>')
    assert [finding.line for finding in linted(html, source=source).findings] == [8, 10]


def test_front_matter_is_named_by_its_line() -> None:
    source = SOURCE.replace("title: A bean in a jar", "title: x\nsubject: " + "x" * 80)
    [finding] = linted(source=source, Subject="x" * 80).findings
    assert (finding.check, finding.line) == ("subject", 3)


def test_waiver_with_a_reason_takes_a_finding_out() -> None:
    waiver = "lint: {ignore: {insecure-link: their server has no TLS}}\n---\n\n"
    report = linted(BAD_LINK, source=BAD_SOURCE.replace("---\n\n", waiver, 1))
    assert report.findings == ()
    [(finding, reason)] = report.ignored
    assert (finding.check, reason) == ("insecure-link", "their server has no TLS")
    assert not report.fails(strict=True)


def test_waiver_without_a_reason_waives_nothing() -> None:
    source = BAD_SOURCE.replace("---\n\n", "lint: {ignore: {insecure-link: ''}}\n---\n\n", 1)
    assert found(linted(BAD_LINK, source=source)) == {"insecure-link": "warning", "lint-ignore": "warning"}


def test_misspelt_waiver_is_corrected() -> None:
    source = SOURCE.replace("---\n\n", "lint: {ignore: {insecure-lnik: why}}\n---\n\n", 1)
    [finding] = linted(source=source).findings
    assert "did you mean 'insecure-link'?" in finding.message


def test_warning_fails_only_when_strict() -> None:
    report = linted(BAD_LINK)
    assert not report.fails()
    assert report.fails(strict=True)
    assert report.count(Level.WARNING) == 1


def test_words_and_reading_time_are_those_of_the_mail() -> None:
    report, made = linted(), edition()
    assert (made.words, made.reading_time) == (report.words, report.reading_time)
    assert (
        len(SOURCE.split("---\n")[2].replace("(https://example.com/beans)", "").split()) + 5 == report.words
    )


def test_many_findings_of_a_check_are_cut() -> None:
    html = HTML.replace("<!-- more -->", '<a href="http://example.com/">a page</a>' * 100)
    assert len(linted(html).findings) == 20
