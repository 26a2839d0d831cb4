"""Issues from feeds: what odd feeds become, what is new, and what a server may not do."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.cli import run
from mailer.config import load
from mailer.database.engine import Database
from mailer.delivery import editions
from mailer.errors import SourceError
from mailer.review import feeds
from mailer.review.feeds import Read, escaped, parse_feed, read_feed, remember
from tests.end_to_end.newsletter import Folder

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
URL = "https://blog.example.org/feed/index.xml"


def rss(*items: str, head: str = '<?xml version="1.0"?>') -> bytes:
    inside = "".join(f"<item>{item}</item>" for item in items)
    return f'{head}<rss version="2.0"><channel><title>B</title>{inside}</channel></rss>'.encode()


def atom(*entries: str, base: str = "") -> bytes:
    inside = "".join(f"<entry>{entry}</entry>" for entry in entries)
    where = f' xml:base="{base}"' if base else ""
    return f'<feed xmlns="http://www.w3.org/2005/Atom"{where}><title>B</title>{inside}</feed>'.encode()


def json_feed(*items: object) -> bytes:
    return json.dumps({"version": "https://jsonfeed.org/version/1.1", "title": "B", "items": items}).encode()


ODD: dict[str, tuple[bytes, list[tuple[str, str, str]]]] = {
    "plain": (
        rss("<title>One</title><link>https://e.org/1</link><description>Words</description>"),
        [("One", "https://e.org/1", "Words")],
    ),
    "relative link in RSS": (
        rss("<title>A</title><link>/a</link>"),
        [("A", "https://blog.example.org/a", "")],
    ),
    "relative link in Atom": (
        atom('<title>A</title><link href="a.html"/>', base="https://e.org/x/"),
        [("A", "https://e.org/x/a.html", "")],
    ),
    "link to a script": (rss("<title>A</title><link>javascript:alert(1)</link>"), [("A", "", "")]),
    "link to a file": (rss("<title>A</title><link>file:///etc/passwd</link>"), [("A", "", "")]),
    "link with angle brackets": (
        rss("<title>A</title><link>https://e.org/&lt;x&gt;</link>"),
        [("A", "", "")],
    ),
    "no link": (rss("<title>A</title>"), [("A", "", "")]),
    "HTML in the title": (rss("<title>&lt;b&gt;A&lt;/b&gt; &amp;amp; B</title>"), [("A & B", "", "")]),
    "script in the summary": (
        rss("<title>A</title><description>x&lt;script&gt;bad()&lt;/script&gt;y</description>"),
        [("A", "", "xy")],
    ),
    "CDATA": (rss("<title><![CDATA[A <i>b</i>]]></title>"), [("A b", "", "")]),
    "title of several lines": (rss("<title>A\n\n  b\x09c</title>"), [("A b c", "", "")]),
    "no title": (rss("<description>Only words</description>"), [("", "", "Only words")]),
    "nothing at all": (rss("<link>https://e.org/</link>"), []),
    "empty feed": (rss(), []),
    "long title": (rss(f"<title>{'a' * 900}</title>"), [("a" * 199 + "…", "", "")]),
    "undeclared encoding": (
        '<rss version="2.0"><channel><item><title>Größe</title></item></channel></rss>'.encode("latin-1"),
        [("Größe", "", "")],
    ),
    "unclosed element": (
        b'<rss version="2.0"><channel><item><title>A</title><link>https://e.org/1</link>',
        [("A", "https://e.org/1", "")],
    ),
    "entities that expand": (
        rss(
            "<title>&b;</title>",
            head='<!DOCTYPE r [<!ENTITY a "' + "x" * 999 + '"><!ENTITY b "' + "&a;" * 999 + '">]>',
        ),
        [],
    ),
    "entity from a file": (
        rss("<title>A&x;</title>", head='<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]>'),
        [("A&x;", "", "")],
    ),
    "JSON Feed": (
        json_feed(
            {"id": "1", "url": "https://e.org/1", "title": "A", "content_text": "1 < 2"},
            {"id": 2, "title": "B", "content_html": "<p>c</p>"},
            "odd",
        ),
        [("A", "https://e.org/1", "1 < 2"), ("B", "", "c")],
    ),
    "Atom with content": (
        atom('<title type="html">A &lt;em>b&lt;/em></title><content type="html">&lt;p>c&lt;/p></content>'),
        [("A b", "", "c")],
    ),
}


@pytest.mark.parametrize(("content", "expected"), ODD.values(), ids=ODD)
def test_odd_feed_becomes_plain_text(content: bytes, expected: list[tuple[str, str, str]]) -> None:
    found = [(item.title, item.link, item.summary) for item in parse_feed(content, URL, at=AT)]
    if "xxxx" in str(content):
        # The parser may refuse the entities or leave them as they are; it never expands them.
        assert all(len(title) <= 200 for title, _, _ in found)
        return
    assert found == expected


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("Mon, 02 Mar 2026 08:00:00 GMT", datetime(2026, 3, 2, 8, tzinfo=UTC)),
        ("2026-03-01T12:00:00+02:00", datetime(2026, 3, 1, 10, tzinfo=UTC)),
        ("Mon, 02 Mar 2099 08:00:00 GMT", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_date_is_that_of_the_feed_unless_it_lies_ahead(date: str, expected: datetime | None) -> None:
    (item,) = parse_feed(rss(f"<title>A</title><pubDate>{date}</pubDate>"), URL, at=AT)
    assert item.at == expected


@pytest.mark.parametrize("content", [b"", b"<html><body>404</body></html>", b"{}", b"\x00\xff", b"{" * 9_000])
def test_what_is_no_feed_is_refused(content: bytes) -> None:
    with pytest.raises(SourceError, match="this is not a feed"):
        parse_feed(content, URL, at=AT)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_feed_or_a_clear_error(content: bytes) -> None:
    with contextlib.suppress(SourceError):
        assert parse_feed(rss() + content, URL, at=AT) == []


TEXTS = ["{{ subscriber.email }}", "{% raw %}", "{# x #}", "# not a heading", "*a* _b_ `c` [d](e) <b>f</b>",
         "::: note", "1. one", "a & b &amp; c", "$x$ ~~y~~ \\", "![i](cid:x)", "a | b", "- x",
         "> q"]  # fmt: skip


def test_text_of_a_feed_stays_text_in_the_issue(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    items = "".join(f"\n\n{escaped(text)}\n" for text in TEXTS)
    path = folder.path / "issues" / "002-feed.md"
    path.write_text(f"---\ntitle: A\n---\n{items}", encoding="utf-8")
    text = editions.build(load(folder.path / "config.toml"), path).text
    shown = text.replace("{{ '{{' }}", "{{").replace("{{ '{%' }}", "{%").replace("{{ '{#' }}", "{#")
    for one in TEXTS:
        assert one.replace("{{", "{").split("{")[-1] in shown, (one, text)
    assert "reader@example.org" not in shown


# A server of our own.


@dataclass
class Site:
    """What the server answers, and what it was asked."""

    url: str = ""
    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append({name.lower(): value for name, value in self.headers.items()})
            same = site.headers.get("ETag") and self.headers.get("If-None-Match") == site.headers["ETag"]
            self.send_response(304 if same else site.status)
            for name, value in site.headers.items():
                self.send_header(name, value)
            self.end_headers()
            if not same:
                self.wfile.write(site.body)

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}/feed"
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


def read(database: Database, url: str) -> Read:
    with database.reading() as connection:
        return read_feed(connection, url, at=AT, permitted=lambda address: True)


def take(database: Database, url: str) -> list[str]:
    """Read a feed as `mailer new` does; return the titles of what is new."""
    found = read(database, url)
    with database.transaction() as connection:
        remember(connection, found, at=AT)
    return [item.title for item in found.items]


FIRST = "<title>A</title><guid>1</guid><link>https://e.org/1</link><description>Words</description>"


@pytest.mark.parametrize(
    "again",
    [
        FIRST,
        FIRST.replace("https://e.org/1", "https://e.org/moved"),
        FIRST + "<pubDate>Mon, 02 Mar 2026 08:00:00 GMT</pubDate>",
        FIRST.replace("<title>A", "<title>A, corrected"),
        "<title>A</title><link>https://elsewhere.example/1</link><description>Words</description>",
        "<title>Other</title><guid>2</guid><link>https://e.org/1</link>",
    ],
    ids=["the same", "moved", "dated", "corrected", "neither id nor address", "another id"],
)
def test_item_is_used_once_whatever_changes(database: Database, site: Site, again: str) -> None:
    site.body = rss(FIRST)
    assert take(database, site.url) == ["A"]
    site.body = rss("<title>New</title>", again)
    assert take(database, site.url) == ["New"]
    assert take(database, site.url) == []


def test_copies_within_a_feed_are_one_and_the_newest_come_first(database: Database, site: Site) -> None:
    dated = "<title>{0}</title><guid>{0}</guid><pubDate>Mon, 0{0} Feb 2026 08:00:00 GMT</pubDate>"
    site.body = rss(*(dated.format(day) for day in (1, 3, 2)), dated.format(3), "<title>undated</title>")
    assert take(database, site.url) == ["3", "2", "1", "undated"]


def test_requests_are_conditional(database: Database, site: Site) -> None:
    site.body, site.headers = rss(FIRST), {"ETag": '"v1"', "Last-Modified": "Mon, 02 Mar 2026 08:00:00 GMT"}
    assert take(database, site.url) == ["A"]
    assert take(database, site.url) == []
    assert site.asked[1]["if-none-match"] == '"v1"'
    assert site.asked[1]["if-modified-since"] == "Mon, 02 Mar 2026 08:00:00 GMT"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"status": 404}, "404 Not Found"),
        ({"body": b"x" * (feeds.MAX_FEED_OCTETS * 2)}, "larger than 5,000,000 bytes"),
        ({"status": 302, "headers": {"Location": "file:///etc/passwd"}}, "which is not a web page"),
        ({"status": 302, "headers": {"Location": "/feed"}}, "more than 5 redirects"),
    ],
)
def test_response_that_is_no_feed_says_why(
    database: Database, site: Site, answer: dict[str, object], said: str
) -> None:
    for name, value in answer.items():
        setattr(site, name, value)
    with pytest.raises(SourceError, match=said):
        read(database, site.url)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "10.0.0.1", "169.254.169.254"])
def test_addresses_of_this_network_are_refused(database: Database, host: str) -> None:
    with database.reading() as connection, pytest.raises(SourceError, match="is not a public address"):
        read_feed(connection, f"http://{host}:1/feed", at=AT)


def test_redirect_to_this_machine_is_refused(database: Database, site: Site) -> None:
    site.status, site.headers = 302, {"Location": "http://localhost:1/admin"}
    port = int(site.url.rpartition(":")[2].partition("/")[0])
    with database.reading() as connection, pytest.raises(SourceError, match="is not a public address"):
        read_feed(
            connection,
            f"http://blog.example.org:{port}/feed",
            at=AT,
            resolve=lambda host, port: ["127.0.0.1"] if host == "blog.example.org" else ["127.0.0.2"],
            permitted=lambda address: str(address) == "127.0.0.1",
        )


def test_new_issue_has_what_is_new_and_nothing_new_writes_none(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Folder(tmp_path)
    monkeypatch.setattr("mailer.review.links.is_public", lambda address: True)
    site.body = rss(*(f"<title>Item {{{{ {number} }}}}</title><guid>{number}</guid>" for number in range(5)))
    words = ["new", "This week", "--from-feed", site.url, "-C", str(folder.path)]
    assert run([*words, "--items", "2"]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path.name == "002-this-week.md"
    assert path.read_text(encoding="utf-8").count("## [Item") == 2
    text = editions.build(load(folder.path / "config.toml"), path).text
    assert "Item" in text
    assert run(words) == 0
    assert "has nothing new" in capsys.readouterr().err
    assert len(list((folder.path / "issues").glob("*.md"))) == 2
    site.status = 500
    assert run(words) != 0
    assert "500 Internal Server Error" in capsys.readouterr().err
