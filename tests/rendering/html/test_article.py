"""What the public page says of an issue."""

from dataclasses import replace

from mailer.rendering.edition import InlineImage
from mailer.rendering.html.article import article
from tests.rendering.message.test_composer import EDITION
from tests.rendering.test_build import edition_of

BASE = "https://n.example"


def test_the_page_names_nobody_and_counts_nothing() -> None:
    page = (
        "<p>Hello {{ subscriber.name | default('friend') }}</p>"
        '<a href="{{ urls.unsubscribe }}">leave</a> <a href="https://a.example/?b&amp;c">one</a>'
    )
    shown = article(replace(EDITION, page=page), public_url="https://news.example.org/")
    assert shown.body == (
        '<p>Hello friend</p><a href="https://news.example.org/subscribe">leave</a> '
        '<a href="https://a.example/?b&amp;c">one</a>'
    )


def test_a_field_without_default_is_empty() -> None:
    page = "<p>{{ subscriber.plan }}{% for t in subscriber.tags %}x{% endfor %}</p>"
    assert article(replace(EDITION, page=page), public_url=BASE).body == "<p></p>"


def test_the_page_knows_its_own_address() -> None:
    shown = article(replace(EDITION, page="{{ urls.view }} {{ urls.view | upper }}"), public_url=BASE)
    assert shown.address == "https://n.example/archive/007-title"
    assert shown.body == "https://n.example/archive/007-title HTTPS://N.EXAMPLE/ARCHIVE/007-TITLE"


def test_page_elsewhere_has_its_images_there_too() -> None:
    image = InlineImage("a@7", "image/png", b"\x00\x01")
    page = f'<img src="/archive/007-title/{image.name}"> <img src="/archive/007-title/x"> {{{{ urls.view }}}}'
    shown = article(replace(EDITION, page=page, images=(image,)), public_url=BASE, path="/v/abc")
    assert shown.address == f"{BASE}/v/abc"
    assert shown.body == (f'<img src="/v/abc/{image.name}"> <img src="/archive/007-title/x"> {BASE}/v/abc')


def test_the_first_image_represents_the_issue() -> None:
    image = InlineImage("a@7", "image/png", b"\x00\x01")
    shown = article(replace(EDITION, images=(image,)), public_url=BASE)
    assert shown.image == f"https://n.example/archive/007-title/{image.name}"


def test_description_is_the_preheader_else_the_subtitle() -> None:
    edition = replace(EDITION, preheader="For {{ subscriber.name | default('all') }}", subtitle="Sub")
    assert article(edition, public_url=BASE).description == "For all"
    assert article(replace(edition, preheader=""), public_url=BASE).description == "Sub"


def test_elements_of_a_page_say_what_they_are() -> None:
    edition = edition_of(
        "## Two\n\nA[^1] [b](https://b.example).\n\n[^1]: Note.\n\n---\n\n> quoted\n\n"
        "::: question Ann\nWhy?\n:::\n\n::: note\nMind.\n:::\n\n```python\nx = 1\n```\n",
        track_clicks=True,
    )
    body = article(edition, public_url=BASE).body
    assert "<h2>Two</h2>" in body
    assert '<a href="https://b.example">b</a>' in body
    assert '<sup><a href="#note-1" id="mark-1">1</a></sup>' in body
    assert '<li id="note-1">' in body
    assert "<hr>\n" in body
    assert "<blockquote>" in body
    assert '<section class="question"><p class="who">Ann</p>' in body
    assert '<aside class="note"><p class="who">Note</p>' in body
    assert "<pre tabindex" in body
    assert 'role="presentation"' not in body
