"""The outbox in a browser: messages are hostile, and there may be very many."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailer.cli import run
from mailer.config import Brand
from mailer.errors import ExitCode
from mailer.web.operator.kept import PAGE_SIZE, SEARCHED
from mailer.web.operator.outbox import create_outbox_app
from tests.web.conftest import NO_TLS, serving

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
PNG = b"\x89PNG\r\n\x1a\n"


def message(*, subject: str = "Hello", html: str = "<p>Hi</p>", **fields: str) -> bytes:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "The Weekly <a@example.org>", "jo@example.org", subject
    for name, value in fields.items():
        made[name.replace("_", "-")] = value
    made.set_content("Hi in plain text")
    made.add_alternative(html, subtype="html")
    related = made.get_body(("html",))
    assert isinstance(related, EmailMessage)
    related.add_related(PNG, "image", "png", cid="<crocus@example.org>")
    related.add_related(b"<svg onload='alert(1)'/>", "image", "svg+xml", cid="<drawing@example.org>")
    return made.as_bytes()


@pytest.fixture
def maildir(tmp_path: Path) -> Path:
    for name in ("tmp", "new", "cur"):
        (tmp_path / "outbox" / name).mkdir(parents=True)
    return tmp_path / "outbox"


@pytest.fixture
def client(maildir: Path) -> Iterator[httpx.Client]:
    with (
        serving(create_outbox_app(maildir, brand=Brand())) as url,
        httpx.Client(base_url=url, verify=NO_TLS) as opened,
    ):
        yield opened


def keep(maildir: Path, raw: bytes, *, seconds: int = 1_770_000_000, number: int = 1) -> str:
    name = f"{seconds}.P1Q{number}.host,S={len(raw)}"
    (maildir / "new" / name).write_bytes(raw)
    return name


def test_empty_outbox_says_what_comes_here(tmp_path: Path) -> None:
    with serving(create_outbox_app(tmp_path / "none", brand=Brand())) as url:
        answer = httpx.get(url, verify=NO_TLS)
    assert (answer.status_code, "Nothing is here yet." in answer.text) == (200, True)


def test_list_is_newest_first_and_paged(client: httpx.Client, maildir: Path) -> None:
    total = 2 * PAGE_SIZE + 3
    for number in range(1, total + 1):
        keep(maildir, message(subject=f"No {number}"), number=number)
    seen: list[int] = []
    path: str | None = "/"
    while path:
        page = client.get(path).text
        seen += [int(found) for found in re.findall(r">No (\d+)<", page)]
        older = re.search(r'href="(/\?before=[^"]+)"', page)
        path = older[1] if older else None
    assert seen == list(range(total, 0, -1))


def in_issue(slug: str, subject: str = "Hello") -> bytes:
    return message(subject=subject, Feedback_ID=f"{slug}:all:weekly:exampleorg")


def test_messages_are_grouped_by_issue_and_letters_apart(client: httpx.Client, maildir: Path) -> None:
    issues = ["001-beans", "001-beans", "", "002-peas", "", "002-peas"]
    for number, slug in enumerate(issues, start=1):
        raw = in_issue(slug) if slug else message(Auto_Submitted="auto-generated")
        keep(maildir, raw if number != 5 else message(), number=number)
    headings = [
        re.sub(r"<[^>]*>", "", found) for found in re.findall(r"<h2>(.*?)</h2>", client.get("/").text)
    ]
    assert headings == ["002-peas", "Other messages", "002-peas", "Letters", "001-beans"]


def test_issue_selects_its_messages(client: httpx.Client, maildir: Path) -> None:
    for number in range(1, 5):
        keep(maildir, in_issue(f"00{number % 2}-x", f"No {number}"), number=number)
    assert re.findall(r">No (\d+)<", client.get("/", params={"issue": "001-x"}).text) == ["3", "1"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("krokus", ["3"]),
        ("KROKUS", ["3"]),
        ("jo@example.org", ["3", "2", "1"]),
        ("weekly", ["3", "2", "1"]),
        ("002-peas", ["2"]),
        ("no such words", []),
        (HOSTILE, []),
        ("%", []),
    ],
)
def test_search_finds_subjects_addresses_and_issues(
    client: httpx.Client, maildir: Path, query: str, found: list[str]
) -> None:
    keep(maildir, message(subject="No 1"), number=1)
    keep(maildir, in_issue("002-peas", "No 2"), number=2)
    keep(maildir, message(subject="Ein Krokus blüht: No 3"), number=3)
    page = client.get("/", params={"q": query}).text
    assert re.findall(r"No (\d+)<", page) == found
    assert "<script" not in page
    assert ("Nothing found" in page) == (not found)


def test_search_opens_a_bounded_number_of_messages_and_continues(client: httpx.Client, maildir: Path) -> None:
    keep(maildir, message(subject="Needle"), number=1)
    for number in range(2, SEARCHED + 3):
        keep(maildir, b"Subject: hay\n\n", number=number)
    page = client.get("/", params={"q": "needle"}).text
    older = re.search(r'href="(/\?q=needle&amp;before=[^"]+)"', page)
    assert (">Needle<" in page, older is not None) == (False, True)
    assert older is not None
    assert ">Needle<" in client.get(older[1].replace("&amp;", "&")).text


def test_message_is_shown_in_a_frame_without_rights(client: httpx.Client, maildir: Path) -> None:
    name = keep(maildir, message())
    page = client.get(f"/message/{name}")
    frame = re.search(r"<iframe [^>]*>", page.text)
    assert frame is not None
    assert f'src="/message/{quote(name)}/html"' in frame[0]
    assert 'sandbox="allow-same-origin allow-popups allow-popups-to-escape-sandbox"' in frame[0]
    policy = page.headers["content-security-policy"]
    assert ("frame-src 'self'" in policy, "default-src 'none'" in policy) == (True, True)
    # Only the page's own script runs: the one with this response's nonce.
    nonces = re.findall(r"script-src 'nonce-([^']+)'", policy)
    assert nonces == re.findall(r'nonce="([^"]+)"', page.text)
    assert len(nonces) == 1


def test_html_of_a_message_can_neither_run_nor_fetch(client: httpx.Client, maildir: Path) -> None:
    name = keep(maildir, message(html='<img src="https://tracker.example/x"><script>alert(1)</script>'))
    policy = client.get(f"/message/{name}/html").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "img-src 'self' data:;" in policy
    for right in ("allow-scripts", "allow-forms", "allow-top-navigation", "script-src", "https:"):
        assert right not in policy


def test_inline_images_are_served_and_drawings_that_can_script_are_not(
    client: httpx.Client, maildir: Path
) -> None:
    name = keep(maildir, message(html='<img alt="" src="cid:crocus@example.org">'))
    html = client.get(f"/message/{name}/html").text
    found = re.search(r'src="([^"]+)"', html)
    assert found is not None
    image = client.get(found[1])
    assert (image.headers["content-type"], image.content) == ("image/png", PNG)
    assert client.get(f"/message/{name}/images/drawing@example.org").status_code == 404


@pytest.mark.parametrize("view", ["desktop", "phone", "text", "headers", "", "other"])
def test_header_fields_arrive_as_text(client: httpx.Client, maildir: Path, view: str) -> None:
    raw = message().replace(b"Subject: Hello", b"Subject: " + HOSTILE.encode())
    raw = raw.replace(b"jo@example.org", HOSTILE.encode())
    name = keep(maildir, raw)
    for page in (client.get("/").text, client.get(f"/message/{name}", params={"view": view}).text):
        assert "<script>" not in page
        assert "<img" not in page


def test_plain_text_and_source_are_text(client: httpx.Client, maildir: Path) -> None:
    raw = message().replace(b"Hi in plain text", HOSTILE.encode())
    name = keep(maildir, raw)
    assert "<script" not in client.get(f"/message/{name}?view=text").text
    source = client.get(f"/message/{name}/source")
    assert (source.headers["content-type"], source.content) == ("text/plain; charset=utf-8", raw)
    assert source.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "name", ["..%2f..%2fsecret", "../secret", "secret", "1.a%00b", ".hidden", "1./x", "1.none"]
)
def test_only_messages_are_read(client: httpx.Client, maildir: Path, name: str) -> None:
    (maildir.parent / "secret").write_text("the secret")
    (maildir / "new" / "secret").write_text("the secret")
    for path in (f"/message/{name}", f"/message/{name}/source", f"/message/{name}/html"):
        answer = client.get(path)
        assert (answer.status_code, "the secret" in answer.text) == (404, False)


def test_parts_nested_thousands_deep_do_not_stop_the_page(client: httpx.Client, maildir: Path) -> None:
    deep = b"Subject: Deep\n" + b"".join(
        b'Content-Type: multipart/mixed; boundary="%d"\n\n--%d\n' % (n, n) for n in range(3000)
    )
    name = keep(maildir, deep)
    assert client.get("/").status_code == 200
    for path in (f"/message/{name}", f"/message/{name}?view=headers"):
        assert (client.get(path).status_code, "Deep" in client.get(path).text) == (200, True)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    raw=st.one_of(
        st.binary(max_size=400),
        st.builds(
            lambda field, value, kind, body: b"%b: %b\nContent-Type: %b\n\n%b" % (field, value, kind, body),
            st.sampled_from([b"Subject", b"To", b"Date", b"Content-ID", b"Content-Transfer-Encoding"]),
            st.one_of(
                st.binary(max_size=60),
                st.sampled_from([b"=?utf-8?q?=FF?=", b"=?nope?b?AAAA?=", b"=?utf-8?b?x?=", b"(" * 3000]),
            ),
            st.sampled_from(
                [
                    b"text/html",
                    b"text/plain; charset=nope",
                    b"text/html; charset=utf-7",
                    b"multipart/mixed",
                    b"x",
                ]
            ),
            st.binary(max_size=100),
        ),
    )
)
def test_no_message_breaks_the_pages(client: httpx.Client, maildir: Path, raw: bytes) -> None:
    name = keep(maildir, raw)
    assert client.get("/").status_code == 200
    for path in ("", "?view=text", "?view=headers", "/source"):
        assert client.get(f"/message/{name}{path}").status_code == 200
    assert client.get(f"/message/{name}/html").status_code in (200, 404)


def test_other_host_names_are_refused(client: httpx.Client) -> None:
    assert client.get("/", headers={"Host": "rebound.example:8601"}).status_code == 421
    assert client.get("/", headers={"Host": "localhost:8601"}).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "mail.example.org"])
def test_outbox_listens_on_this_machine_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], host: str
) -> None:
    (tmp_path / "config.toml").write_text("")
    assert run(["outbox", "-C", str(tmp_path), "--host", host]) == ExitCode.USAGE
    assert "this machine only" in capsys.readouterr().err
