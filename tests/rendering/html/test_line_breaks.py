"""Nothing after a long word in a table is lost, however many possible line breaks the word has."""

from __future__ import annotations

import re
from html import unescape

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailer.rendering.html.line_breaks import parsed, with_wbr, without_wbr
from mailer.web.public.feeds import absolute
from tests.rendering.scene import edition

LONG = {
    "address": "https://example.org/" + "a-b/" * 2_000,
    "base64": "Ab9+/" * 4_000,
    "word": "x" * 20_000,
    "dots": "a." * 600,
    "code": "`" + "a.b/" * 3_000 + "`",
}


def words_of(html: str) -> str:
    return unescape(re.sub(r"<style.*?</style>|<!--.*?-->|<[^>]*>", "", html, flags=re.DOTALL))


@pytest.mark.parametrize("kind", LONG)
@pytest.mark.parametrize("place", ["| a | b |\n|---|---|\n| {} | x |\n", "{}\n", "- {}\n", "> {}\n"])
def test_nothing_after_a_long_word_is_lost(kind: str, place: str) -> None:
    made = edition(place.format(LONG[kind]) + "\nThe last words.\n")
    whole = LONG[kind].strip("`")
    for html in (made.html, made.page):
        assert (whole in words_of(html), "The last words." in words_of(html)) == (True, True)
        assert "</wbr" not in html
        root = parsed(html)
        assert root is not None
        assert "The last words." in "".join(map(str, root.itertext()))
    assert "The last words." in made.text
    assert "The last words." in words_of(absolute(made.page, "https://example.org/archive/1"))


@settings(deadline=None, max_examples=30)
@given(
    pieces=st.lists(st.text("ab/.-_@=?&x1", min_size=1, max_size=40), min_size=1, max_size=400),
    separator=st.sampled_from(["", "/", ".", " "]),
)
@example(pieces=["ab"] * 300, separator="/")
def test_words_of_a_cell_are_the_words_as_written(pieces: list[str], separator: str) -> None:
    text = re.sub(r"[_@&]|https?|www", "-", separator.join(pieces))
    made = edition(f"| a | b |\n|---|---|\n| `{text}` | x |\n\nThe end.\n")
    assert " ".join(text.split()) in " ".join(words_of(made.html).split())
    assert "The end." in words_of(made.html)


def test_breaks_become_empty_elements_and_comments_stay() -> None:
    html = "<html><body><p>a<wbr>b<WBR class=x>c</wbr>d<!--[if mso]>e<wbr>f<![endif]--></p></body></html>"
    assert with_wbr(without_wbr(html)) == html.replace("<WBR class=x>", "<wbr>").replace("</wbr>", "")
    root = parsed(html)
    assert root is not None
    assert [(one.tag, len(one), one.tail) for one in root.iter("wbr")] == [("wbr", 0, "b"), ("wbr", 0, "cd")]
    assert parsed("") is None
