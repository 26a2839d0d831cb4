"""What email clients do not support is known by client and platform."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from pathlib import Path

import pytest

from mailer.config import Brand
from mailer.rendering.build import build_edition
from mailer.rendering.lint import Finding, Level, lint
from mailer.rendering.lint.support import (
    MAIN,
    Feature,
    chosen,
    client_names,
    described,
    lacking,
    used_by_sheet,
)
from mailer.rendering.message import Recipient
from mailer.rendering.source import parse_issue
from tests.conftest import PROJECT
from tests.rendering.lint.make_client_support import Row, slimmed
from tests.rendering.lint.scene import HTML, NEWSLETTER, PUBLIC_URL, linted
from tests.rendering.lint.test_templates import EVERYTHING
from tests.rendering.message.test_composer import composer

PAGE = PROJECT / "docs" / "reference" / "clients.md"


def findings(clients: tuple[str, ...]) -> list[Finding]:
    issue = parse_issue(EVERYTHING, Path("issues/003.md"))
    made = build_edition(
        issue, NEWSLETTER, Brand(), PROJECT / "email_templates", public_url=PUBLIC_URL, raw_html=True
    )
    reader = Recipient(1, "ana@example.com", "Ana", {"city": "Cluj"})
    message = composer(made).compose(reader, datetime(2026, 1, 2, tzinfo=UTC)).content
    report = lint(issue, made, message, NEWSLETTER, public_url=PUBLIC_URL, leaving=False, clients=clients)
    return [one for one in report.findings if one.check == "client-support"]


def test_templates_use_nothing_above_the_documented_list() -> None:
    found = findings(MAIN)
    assert {one.level for one in found} == {Level.INFO}
    rows = PAGE.read_text(encoding="utf-8").splitlines()
    assert [one.message for one in found if f"| {escape(one.message)} |" not in rows] == []


def test_authors_own_feature_is_a_warning() -> None:
    html = HTML.replace("<!-- more -->", '<div style="display:flex">Beans</div>')
    report = linted(html, clients=chosen(["gmail", "outlook"]))
    (found,) = [one for one in report.findings if "display: flex" in one.message]
    assert found.level is Level.WARNING
    assert "Outlook (Windows" in found.message


def test_client_is_chosen_with_all_its_platforms_or_one() -> None:
    assert set(chosen(["gmail"])) >= {"gmail/ios", "gmail/android", "gmail/desktop-webmail"}
    assert chosen(["outlook/windows"]) == ("outlook/windows",)
    assert chosen([]) == ()


@pytest.mark.parametrize("name", ["gmial", "outlook/linux", "/", "lotus"])
def test_unknown_client_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(LookupError, match=f"no email client '{name}'.*gmail.*outlook"):
        chosen([name])


def test_every_main_client_is_in_the_table() -> None:
    assert {client.partition("/")[0] for client in MAIN} <= set(client_names())
    assert chosen(MAIN) == MAIN


def test_platforms_are_named_only_where_they_differ() -> None:
    among = ("gmail/ios", "gmail/android", "outlook/windows", "outlook/macos")
    assert described(["gmail/ios", "gmail/android"], among) == "Gmail"
    assert described(["gmail/ios", "outlook/windows"], among) == "Gmail (iOS) and Outlook (Windows)"


def test_known_facts() -> None:
    assert lacking(Feature("values", "display:flex", "", ""), ["outlook/windows", "apple-mail/ios"]) == [
        "outlook/windows"
    ]
    assert lacking(Feature("properties", "no-such-property", "", ""), MAIN) == []


def test_style_sheet_is_read_with_its_rules_selectors_and_values() -> None:
    dark = ".a > b:hover, [x=y] { color: rgb(1 2 3) !important }"
    css = f"@media (prefers-color-scheme: dark) {{ {dark} }} p {{ width: 5vw }}"
    assert {(one.kind, one.name) for one in used_by_sheet(css)} >= {
        ("rules", "@media"), ("rules", "@media (prefers-color-scheme)"), ("selectors", ">"),
        ("selectors", ":hover"), ("selectors", "["), ("properties", "color"), ("functions", "rgb"),
        ("values", "!important"), ("units", "vw"),
    }  # fmt: skip


def test_table_is_made_of_facts_only() -> None:
    support = {"gmail/ios": "y #1", "outlook/windows": "n", "yahoo/ios": "a #2", "hey/desktop-webmail": "u"}
    rows = [
        Row(feature="css-gap", title="gap, column-gap, row-gap", tested="2026-01-02", support=support),
        Row(feature="html-svg", title="Embedded <svg> image", tested="2025-01-02", support=support),
    ]
    table = slimmed(rows)
    assert table["date"] == "2026-01-02"
    assert table["clients"] == list(support)
    assert (table["properties"], table["elements"]) == (
        {"column-gap": "yna-", "gap": "yna-", "row-gap": "yna-"}, {"svg": "yna-"}
    )  # fmt: skip
