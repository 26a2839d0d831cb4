"""Conditions on lines of their own between rows and items."""

from __future__ import annotations

import pytest

from mailer.errors import SourceError
from tests.rendering.scene import edition, received

TABLE = """
| a | b |
|---|---|
{% if subscriber.tags %}
| 1 | 2 |
{% else %}
| 7 | 8 |
{% endif %}
| 3 | 4 |
{% if subscriber.tags %}
| 5 | 6 |
{% endif %}

After.
"""


@pytest.mark.parametrize("raw_html", [False, True])
@pytest.mark.parametrize(("tags", "cells"), [(("x",), "a b 1 2 3 4 5 6"), ((), "a b 7 8 3 4")])
def test_condition_between_rows_leaves_the_table_whole(
    tags: tuple[str, ...], cells: str, raw_html: bool
) -> None:
    got = received(edition(TABLE, raw_html=raw_html), tags=tags)
    (table,) = got.body.findall(".//table[@class='data']")
    assert " ".join("".join(map(str, table.itertext())).split()) == cells
    assert got.words == f"{cells} After."
    shown = got.above_signature.replace("-", " ").split()
    assert shown == ["A", "test", "======", *cells.split(), "After."]


@pytest.mark.parametrize("mark", ["-", "*", "1."])
@pytest.mark.parametrize(("tags", "items"), [(("x",), ["one", "two", "three"]), ((), ["one", "three"])])
def test_condition_between_items_leaves_the_list_whole(
    mark: str, tags: tuple[str, ...], items: list[str]
) -> None:
    body = f"{mark} one\n{{% if subscriber.tags %}}\n{mark} two\n{{% endif %}}\n{mark} three\n"
    got = received(edition(body), tags=tags)
    lists = [*got.body.iter("ul"), *got.body.iter("ol")]
    assert len(lists) == 1
    assert [str(item.text).strip() for item in lists[0].iter("li")] == items
    assert [line.removeprefix("- ") for line in got.above_signature.split("\n")[3:]] == items


@pytest.mark.parametrize("tags", [("x",), ()])
def test_condition_around_a_table_or_a_list_stays_around_it(tags: tuple[str, ...]) -> None:
    body = (
        "{% if subscriber.tags %}\n| a | b |\n|---|---|\n| 1 | 2 |\n{% endif %}\n\n"
        "{% if subscriber.tags %}\n- one\n{% endif %}\n\n- two\n"
    )
    got = received(edition(body), tags=tags)
    assert got.words == ("a b 1 2 one two" if tags else "two")
    assert len(list(got.body.iter("ul"))) == (2 if tags else 1)
    assert len(got.body.findall(".//table[@class='data']")) == len(tags)


def test_condition_over_items_and_a_paragraph_joins_no_lists() -> None:
    body = "- one\n\n{% if subscriber.tags %}\n- two\n\nText.\n{% endif %}\n\n- three\n"
    assert received(edition(body), tags=("x",)).words == "one two Text. three"
    assert received(edition(body)).words == "one three"


@pytest.mark.parametrize(
    "body",
    [
        "| a |\n|---|\n{% if subscriber.tags %}\n| 1 |\n\nText.\n\n{% endif %}\n",
        "{% if subscriber.tags %}\n\n| a |\n|---|\n| 0 |\n{% endif %}\n| 1 |\n",
    ],
)
def test_condition_that_cuts_a_table_is_refused(body: str) -> None:
    with pytest.raises(SourceError, match=r"002-test\.md:\d+: a condition begins inside a table"):
        edition(body)


def test_items_are_numbered_in_the_text_where_no_condition_parts_them() -> None:
    assert received(edition("3. one\n4. two\n")).above_signature.endswith("3. one\n4. two")
