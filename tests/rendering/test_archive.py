"""The public page of an issue."""

from dataclasses import replace

from mailer.rendering.archive import archive_page
from mailer.rendering.edition import InlineImage
from tests.rendering.test_message import EDITION


def test_the_page_names_nobody_and_counts_nothing() -> None:
    page = archive_page(EDITION, public_url="https://news.example.org/")
    assert page == (
        '<p>Hello friend</p>\n<a href="https://example.com/?a=1&amp;b=2">one</a>\n'
        '<a href="https://news.example.org/subscribe">leave</a><img src="data:image/gif;base64,'
        'R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7">'
    )


def test_a_field_without_default_is_empty() -> None:
    edition = replace(EDITION, html="<p>{{ subscriber.plan }}{% for t in subscriber.tags %}x{% endfor %}</p>")
    assert archive_page(edition, public_url="https://news.example.org") == "<p></p>"


def test_the_page_knows_its_own_address() -> None:
    edition = replace(EDITION, html="{{ urls.view }} {{ urls.view | upper }}")
    assert archive_page(edition, public_url="https://n.example") == (
        "https://n.example/archive/007-title HTTPS://N.EXAMPLE/ARCHIVE/007-TITLE"
    )


def test_images_of_the_message_are_in_the_page() -> None:
    edition = replace(
        EDITION, html='<img src="cid:a@7">', images=(InlineImage("a@7", "image/png", b"\x00\x01"),)
    )
    assert archive_page(edition, public_url="https://n.example") == '<img src="data:image/png;base64,AAE=">'
