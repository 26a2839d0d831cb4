"""Template errors name the file and line that the operator can open."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mailer.config import Brand, Newsletter
from mailer.errors import SourceError
from mailer.rendering.build import build_edition
from mailer.rendering.source import read_issue
from tests.rendering.test_build import TEMPLATES

ISSUE = """\
<mj-section>
  <mj-column>
    <mj-text>{{ body }}</mj-text>
  </mj-column>
</mj-section>
"""


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TEMPLATES, tmp_path / "email_templates"))


def told(templates: Path) -> tuple[str, str | None]:
    """Return what is said of the templates, from the folder on, and the remedy."""
    source = templates.parent / "001-x.md"
    source.write_text(
        "---\ntitle: Hello\nsubtitle: World\ndate: 2026-03-04\n---\n\nText.\n", encoding="utf-8"
    )
    newsletter = Newsletter(author_address="ana@example.org", postal_address="1 Street\nCity")
    with pytest.raises(SourceError) as caught:
        build_edition(read_issue(source), newsletter, Brand(), templates, public_url="https://n.example")
    assert caught.value.message.startswith(f"{templates}/")
    return caught.value.message.removeprefix(f"{templates}/"), caught.value.remedy


def add(path: Path, text: str, *, line: int) -> None:
    """Put a line into a file, so that it is that line of it."""
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([*lines[: line - 1], text, *lines[line - 1 :]]) + "\n", encoding="utf-8")


def extended(before: str, content: str) -> str:
    return f'{before}{{% extends "base.mjml.j2" %}}\n{{% block content %}}\n{content}{{% endblock %}}\n'


def test_wrong_tag_in_the_frame(templates: Path) -> None:
    add(templates / "base.mjml.j2", "  <mj-boddy />", line=10)
    said, remedy = told(templates)
    assert said == "base.mjml.j2:10: <mj-boddy> is not an MJML element"
    assert remedy == "did you mean <mj-body>?"


def test_wrong_attribute_in_a_partial(templates: Path) -> None:
    path = templates / "partials" / "footer.mjml.j2"
    lines = path.read_text(encoding="utf-8").splitlines()
    number = next(n for n, line in enumerate(lines, 1) if "<mj-column" in line)
    lines[number - 1] = lines[number - 1].replace("<mj-column", '<mj-column widht="3"')
    path.write_text("\n".join(lines), encoding="utf-8")
    said, remedy = told(templates)
    assert said == f"partials/footer.mjml.j2:{number}: <mj-column> has no attribute 'widht'"
    assert remedy == "did you mean 'width'?"


def test_wrong_nesting_below_comments_conditions_and_tags_over_several_lines(templates: Path) -> None:
    content = (
        "{# One,\n   two. #}\n"  # lines 3 and 4
        "{% if title -%}\n\n{%- set word = 'x' %}\n"  # 5 to 7
        '<mj-section\n    padding="0"\n>\n'  # 8 to 10
        '  <mj-text\n    color="{{ colour.text }}">x</mj-text>\n'  # 11
        "</mj-section>\n{% endif %}\n"
    )
    (templates / "issue.mjml.j2").write_text(extended("", content + ISSUE), encoding="utf-8")
    said, _ = told(templates)
    assert said == "issue.mjml.j2:11: <mj-text> is not allowed in <mj-section>"


def test_mistake_in_a_macro_that_another_file_calls(templates: Path) -> None:
    (templates / "partials" / "macros.mjml.j2").write_text(
        "{% macro quiet(text) %}\n\n<mj-text colour='red'>{{ text }}</mj-text>\n{% endmacro %}\n",
        encoding="utf-8",
    )
    content = (
        '{% from "partials/macros.mjml.j2" import quiet %}\n<mj-section><mj-column>\n{{ quiet(title) }}\n'
        "</mj-column></mj-section>\n"
    )
    (templates / "issue.mjml.j2").write_text(extended("", content + ISSUE), encoding="utf-8")
    said, remedy = told(templates)
    assert said == "partials/macros.mjml.j2:3: <mj-text> has no attribute 'colour'"
    assert remedy == "did you mean 'color'?"


def test_mistake_in_a_later_round_of_a_loop(templates: Path) -> None:
    content = (
        "<mj-section><mj-column>\n{% for word in ['a', 'b', 'c'] %}\n"  # 3, 4
        "<mj-text>{{ word }}</mj-text>\n"  # 5
        "{% if loop.last %}<mj-divder />{% endif %}\n"  # 6
        "{% endfor %}\n</mj-column></mj-section>\n"
    )
    (templates / "issue.mjml.j2").write_text(extended("", content + ISSUE), encoding="utf-8")
    assert told(templates)[0] == "issue.mjml.j2:6: <mj-divder> is not an MJML element"


def test_element_that_is_not_closed_is_named_where_it_opens(templates: Path) -> None:
    content = "<mj-section>\n<mj-column>\n<mj-text>Hello\n</mj-column>\n</mj-section>\n"
    (templates / "issue.mjml.j2").write_text(extended("", content + ISSUE), encoding="utf-8")
    said, remedy = told(templates)
    assert said == "issue.mjml.j2:5: <mj-text> is not closed where issue.mjml.j2:6 closes another element"
    assert remedy == "close every element in the reverse order of opening"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("    <mj-text>a &nosuch; b</mj-text>", "unknown entity &nosuch;"),
        (
            "    <mj-text color=red>x</mj-text>",
            "not well-formed (invalid token): <mj-text color=red>x</mj-text>",
        ),
        ("    <mj-text>{{ nothing }}</mj-text>", "'nothing' is undefined"),
        ("    <mj-text>{{ title | upper( }}</mj-text>", "unexpected '}', expected ')'"),
        ("    {% include 'partials/no.mjml.j2' %}", None),
    ],
)
def test_every_other_mistake_has_its_line_too(templates: Path, line: str, said: str | None) -> None:
    path = templates / "partials" / "header.mjml.j2"
    path.write_text(f"<mj-section>\n  <mj-column>\n{line}\n  </mj-column>\n</mj-section>\n", encoding="utf-8")
    message = told(templates)[0]
    if said is None:
        assert message == "partials/no.mjml.j2: there is no such template"
    else:
        assert message == f"partials/header.mjml.j2:3: {said}"


def test_text_that_a_filter_has_changed_is_placed_after_filling(templates: Path) -> None:
    content = "{% filter upper %}\n<mj-section>\n{% endfilter %}\n</mj-section>\n"
    (templates / "issue.mjml.j2").write_text(extended("", content + ISSUE), encoding="utf-8")
    assert told(templates)[0] == (
        "issue.mjml.j2, line 18 after filling: <MJ-SECTION> is not closed where issue.mjml.j2:6"
        " closes another element"
    )
