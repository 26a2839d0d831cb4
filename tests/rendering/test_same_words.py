"""HTML, text and web page say the same words in the same order, whatever the Markdown."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jinja2 import Environment

from mailer.rendering.edition import Edition
from mailer.rendering.text.layout import columns
from tests.rendering.generated import WORD, Document, documents
from tests.rendering.source.test_raw_html import edition_of

_INLINE = frozenset({"a", "abbr", "b", "code", "em", "i", "s", "small", "span", "strong", "sub", "u", "wbr"})
_MARKS = re.compile(r"[*~`]")
# Unshrunken: a failing document is readable as it is, and shrinking one takes minutes.
_RUNS = settings(
    max_examples=40,
    phases=[Phase.reuse, Phase.generate],
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class _Seen(HTMLParser):
    """What a reader sees who is shown no images."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self._hidden = 0
        self._in_label = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # Labels show on phones only, instead of the headings that they repeat.
        self._in_label = ("class", "label") in attrs
        self._hidden += tag in ("style", "title") or self._in_label
        if tag == "img":
            self.text += f" {dict(attrs).get('alt') or ''} "
        elif tag not in _INLINE:
            self.text += " "

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("style", "title") or self._in_label
        self._in_label = False
        if tag not in _INLINE:
            self.text += " "

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.text += data


def seen(html: str) -> list[str]:
    reader = _Seen()
    reader.feed(html)
    reader.close()
    return WORD.findall(reader.text)


def words_of(edition: Edition) -> dict[str, list[str]]:
    """Return the words of the text, the HTML and the web page."""
    text = WORD.findall(_MARKS.sub("", edition.text))
    return {"text": text, "html": seen(edition.html), "page": seen(edition.page)}


def broken(document: Document, edition: Edition) -> list[str]:
    """Return the addresses that the text breaks, and its lines that are too long or read as protocol."""
    whole = set(re.split(r"[\s`]+", edition.text))
    found = [url for url in document.urls if url not in whole]
    for line in edition.text.splitlines():
        rest = re.sub(r"\S*://\S*", "", line)
        # A line too long for its address holds nothing else, and is indented so far that 30 columns are left.
        most = 78 if columns(line) <= 78 else 42
        too_long = columns(rest) > most or (columns(line) > 78 and WORD.search(rest))
        if too_long or re.match(r"From |\.", line):
            found.append(line)
    return found


@_RUNS
@given(documents())
def test_html_text_and_page_say_the_same_and_no_line_or_address_is_broken(document: Document) -> None:
    edition = edition_of(document.body, raw_html=False)
    words = list(document.words)
    assert words_of(edition) == {"text": words, "html": words, "page": words}
    assert broken(document, edition) == []


@_RUNS
@given(documents(raw_html=True))
def test_so_they_do_where_html_is_written_between(document: Document) -> None:
    edition = edition_of(document.body)
    words = list(document.words)
    assert words_of(edition) == {"text": words, "html": words, "page": words}
    assert broken(document, edition) == []


@_RUNS
@given(st.lists(st.sampled_from(["> ", "- ", "1. ", "120. "]), max_size=16), documents())
def test_deep_nesting_leaves_room_for_words(marks: list[str], document: Document) -> None:
    first, *rest = document.body.splitlines()
    indent = "".join(mark if mark == "> " else " " * len(mark) for mark in marks)
    body = "\n".join(["".join(marks) + "deep", indent.rstrip(), *(indent + line for line in [first, *rest])])
    text = edition_of(body, raw_html=False).text
    for line in text.splitlines():
        assert columns(re.sub(r"\S*://\S*", "", line)) <= 78


_PHRASES = st.lists(
    st.sampled_from(["in", "bean", "extraordinarily", "[a page](https://a.example)", "*so*"]), min_size=1
)


@_RUNS
@given(
    st.lists(st.tuples(_PHRASES, _PHRASES, _PHRASES, st.booleans(), st.booleans()), min_size=1, max_size=5)
)
def test_no_condition_leaves_a_long_line_whether_it_holds_or_not(
    parts: list[tuple[list[str], list[str], list[str], bool, bool]],
) -> None:
    body = ""
    for before, if_so, if_not, otherwise, apart in parts:
        glue = " " if apart else ""
        body += " ".join(before) + glue + "{% if subscriber.city %} " + " ".join(if_so)
        body += ("{% else %}" + " ".join(if_not) if otherwise else "") + "{% endif %}, "
    template = Environment().from_string(edition_of(body, raw_html=False).text)
    for city in ("", "Timisoara"):
        text = template.render(subscriber={"city": city}, urls={})
        for line in text.split("\n-- \n")[0].splitlines():
            assert columns(line) <= 78
