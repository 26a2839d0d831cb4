"""Composed messages, read by the standard library."""

import email
import email.policy
import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.headerregistry import AddressHeader
from email.message import EmailMessage
from functools import cache
from typing import Any

import jinja2
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import structs

from mailer.config import Newsletter
from mailer.errors import ConfigError, RecipientError, SourceError
from mailer.rendering.edition import Edition, InlineImage
from mailer.rendering.message import Composer, Dkim, Message, Recipient, list_id
from mailer.tokens import Signer, Subject

AT = datetime(2026, 3, 4, 10, 0, tzinfo=UTC)
NEWSLETTER = Newsletter(name="The Week", author_name="Ada Éva", author_address="ada@example.org")
SIGNER = Signer([b"a secret of more than sixteen octets"])
ANNA = Recipient(123, "anna@example.net", "Anna", {"city": "Graz"}, ("a", "b"))
EDITION = Edition(
    slug="007-title", title="T", subtitle="", author="", date="2026-03-04", number=7, tags=(),
    subject="Issue 7", preheader="", links=("https://example.com/?a=1&b=2",), images=(), made_of={},
    html='<p>Hello {{ subscriber.name | default("friend") }}</p>\n<a href="{{ urls.click }}/0">one</a>\n'
    '<a href="{{ urls.unsubscribe }}">leave</a>{{ subscriber.city | default("") }}'
    '<img src="{{ urls.open }}">',
    text="Hello {{ subscriber.name | default('friend') }}\n\nLeave: {{ urls.unsubscribe }}\n",
)  # fmt: skip


def composer(edition: Edition = EDITION, **options: Any) -> Composer:
    defaults: dict[str, Any] = {
        "issue_id": 7, "newsletter": NEWSLETTER, "public_url": "https://news.example.org",
        "bounce_domain": "bounce.example.org", "unsubscribe_address": "leave@bounce.example.org",
        "signer": SIGNER,
    }  # fmt: skip
    return Composer(edition, **(defaults | options))


def parsed(message: Message) -> EmailMessage:
    """Return the message as the standard library reads it, after checking that it sees no defect."""
    read = email.message_from_bytes(message.content, policy=email.policy.default)
    assert isinstance(read, EmailMessage)
    for part in read.walk():
        assert part.defects == []
        for value in part.values():
            assert value.defects == ()
    return read


def body(message: Message, kind: str) -> str:
    part = parsed(message).get_body(preferencelist=(kind,))
    assert isinstance(part, EmailMessage)
    content: str = part.get_content()
    return content.replace("\r\n", "\n")


def to(message: Message) -> str:
    header = parsed(message)["To"]
    assert isinstance(header, AddressHeader)
    return ", ".join(f"{a.display_name}|{a.addr_spec}" for a in header.addresses)


def test_every_header_is_there_once() -> None:
    read = parsed(
        composer(newsletter=msgspec.structs.replace(NEWSLETTER, reply_to="re@example.org")).compose(ANNA, AT)
    )
    assert sorted(read.keys()) == [
        "Content-Type", "Date", "Feedback-ID", "From", "List-Id", "List-Unsubscribe", "List-Unsubscribe-Post",
        "MIME-Version", "Message-ID", "Reply-To", "Subject", "To",
    ]  # fmt: skip
    assert read["Date"] == "Wed, 04 Mar 2026 10:00:00 +0000"
    assert read["From"] == "Ada Éva <ada@example.org>"
    assert read["To"] == "Anna <anna@example.net>"
    assert read["Reply-To"] == "re@example.org"
    assert read["List-Id"] == "<the-week.example.org>"
    assert read["Feedback-ID"] == "007-title:all:weekly:exampleorg"
    assert read["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"


def test_text_comes_before_html_and_both_say_utf8() -> None:
    parts = list(parsed(composer().compose(ANNA, AT)).iter_parts())
    assert [part.get_content_type() for part in parts] == ["text/plain", "text/html"]
    assert {part.get_content_charset() for part in parts} == {"utf-8"}
    assert {part["Content-Transfer-Encoding"] for part in parts} == {"quoted-printable"}


def test_the_unsubscribe_link_is_in_header_text_and_html() -> None:
    message = composer().compose(ANNA, AT)
    token = SIGNER.link(Subject(7, 123))
    url = f"https://news.example.org/u/{token}"
    assert f"Leave: {url}\n" in body(message, "plain")
    assert f'href="{url}"' in body(message, "html")
    assert (
        f"List-Unsubscribe: <{url}>,\r\n <mailto:leave@bounce.example.org?subject={token}>\r\n".encode()
        in message.content
    )


def test_links_carry_the_delivery() -> None:
    edition = replace(EDITION, text="{{urls.preferences}} {{urls.view}} {{urls.click}}/3 {{urls.open}}")
    token = SIGNER.link(Subject(7, 123))
    url = "https://news.example.org"
    assert body(composer(edition).compose(ANNA, AT), "plain") == (
        f"{url}/p/{token} {url}/archive/007-title {url}/c/{token}/3 {url}/o/{token}.gif\n"
    )


@pytest.mark.parametrize("length", range(1, 60))
def test_links_are_whole_wherever_their_lines_break(length: int) -> None:
    template = (
        "{{ urls.preferences }} {{ urls.view }}\n{{ urls.click }}/3 {{ urls.open }}{{ urls.unsubscribe }}"
    )
    public_url = f"https://news.example/{'~0' * length}"[: 20 + length]
    made = composer(replace(EDITION, text=template), public_url=public_url, public=False)
    for number in (1, 123, 70_000, 123):
        url, token = public_url.rstrip("/"), SIGNER.link(Subject(7, number))
        assert body(made.compose(structs.replace(ANNA, subscriber_id=number), AT), "plain") == (
            f"{url}/p/{token} {url}/v/{token}\n{url}/c/{token}/3 {url}/o/{token}.gif{url}/u/{token}\n"
        )


def test_issue_that_is_not_public_is_viewed_by_the_recipients_own_link() -> None:
    text = "{{urls.view}} {% if subscriber.city %}{{urls.view}}{% endif %}"
    message = composer(replace(EDITION, text=text, html=text), public=False).compose(ANNA, AT)
    link = f"https://news.example.org/v/{SIGNER.link(Subject(7, 123))}"
    assert body(message, "plain").strip() == f"{link} {link}"
    assert body(message, "html").strip() == f"{link} {link}"


def test_envelope_and_message_id_name_the_delivery() -> None:
    message = composer().compose(ANNA, AT)
    assert message.envelope.recipient == "anna@example.net"
    assert not message.envelope.smtputf8
    local, _, domain = message.envelope.sender.partition("@")
    assert domain == "bounce.example.org"
    assert SIGNER.read_return_path(local.removeprefix("b.")) == Subject(7, 123)
    token = message.message_id.removeprefix("<").removesuffix("@example.org>")
    assert SIGNER.read_return_path(token) == Subject(7, 123)
    assert f"Message-ID: {message.message_id}\r\n".encode() in message.content


def test_a_retry_keeps_its_message_id_and_another_reader_has_another() -> None:
    one = composer()
    ids = [
        one.compose(ANNA, AT),
        one.compose(ANNA, AT + timedelta(hours=1)),
        one.compose(structs.replace(ANNA, subscriber_id=4), AT),
    ]
    assert ids[0].message_id == ids[1].message_id != ids[2].message_id
    assert ids[0].content != ids[1].content


def test_a_sent_mail_is_composed_again_octet_for_octet() -> None:
    first = composer()
    first.compose(structs.replace(ANNA, name="Other"), AT)
    again = composer(Edition.from_json(EDITION.to_json()))
    assert again.compose(ANNA, AT) == first.compose(ANNA, AT)


def test_an_empty_name_counts_as_missing() -> None:
    assert body(composer().compose(structs.replace(ANNA, name=""), AT), "plain").startswith("Hello friend\n")


def test_a_missing_field_fails_this_subscriber_and_is_named() -> None:
    made = composer(replace(EDITION, text="{{ subscriber.plan }}"))
    with pytest.raises(
        RecipientError, match=r"^007-title: 'subscriber\.plan' is missing for subscriber 123"
    ) as error:
        made.compose(ANNA, AT)
    assert error.value.field == "subscriber.plan"
    assert body(made.compose(structs.replace(ANNA, attributes={"plan": "pro"}), AT), "plain") == "pro\n"


@pytest.mark.parametrize(
    ("text", "value"),
    [("{{ subscriber.x | date }}", "soon"), ("{% if subscriber.x > 5 %}{% endif %}", "a"),
     ("{{ subscriber.x }}", "a" * 20_001),
     ("{{ subscriber.x | number }}", "many")],
)  # fmt: skip
def test_data_that_do_not_fit_fail_this_subscriber(text: str, value: str) -> None:
    with pytest.raises(RecipientError, match=r"^007-title: the data of subscriber 123 does not fit: "):
        composer(replace(EDITION, text=text)).compose(structs.replace(ANNA, attributes={"x": value}), AT)


def test_an_unusable_address_fails_this_subscriber() -> None:
    with pytest.raises(RecipientError) as error:
        composer().compose(structs.replace(ANNA, email="a@example.org>\r\nBcc: b@example.org"), AT)
    assert error.value.field == "subscriber.email"


@pytest.mark.parametrize(
    ("name", "shown"),
    [("{{7*7}}", "{{7*7}}"), ("x\r\nBcc: b@example.net", ""), ("a\x00b", ""), ("=?utf-8?q?admin?=", ""),
     ("\u202egro.knab", ""), ("Ána 🎈", "Ána 🎈"), ('A "B", C', 'A "B", C'), ("<script>", "<script>")],
)  # fmt: skip
def test_a_hostile_name_is_text_in_the_body_and_harmless_in_headers(name: str, shown: str) -> None:
    edition = replace(EDITION, subject="For {{ subscriber.name }}")
    message = composer(edition).compose(structs.replace(ANNA, name=name), AT)
    read = parsed(message)
    assert to(message) == f"{shown}|anna@example.net"
    assert "Bcc" not in read
    assert len(read.keys()) == 11
    assert "\x00" not in read["Subject"]
    assert body(message, "plain").startswith(f"Hello {name}\n".replace("\r\n", "\n"))
    assert read["Subject"] == "For " + re.sub("[\r\n\x00\u202e]+", " ", name).strip()


def test_subject_holds_slots_and_emoji() -> None:
    subject = "🎈 {{ subscriber.name }}: " + "a long way 🎈 " * 12
    read = parsed(composer(replace(EDITION, subject=subject)).compose(ANNA, AT))
    assert read["Subject"] == "🎈 Anna: " + ("a long way 🎈 " * 12).strip()


@pytest.mark.parametrize("subject", ["a\r\nb", "=?utf-8?q?x?=", "a\u202eb"])
def test_a_subject_that_no_header_may_hold_is_refused(subject: str) -> None:
    with pytest.raises(SourceError, match=r"^007-title: subject: contains"):
        composer(replace(EDITION, subject=subject))


def test_an_empty_subject_fails() -> None:
    with pytest.raises(RecipientError, match="the subject is empty"):
        composer(replace(EDITION, subject="{{ subscriber.name }}")).compose(
            structs.replace(ANNA, name=" "), AT
        )


def test_an_address_beyond_ascii_asks_for_smtputf8() -> None:
    message = composer().compose(structs.replace(ANNA, email="éva@example.net", name="Éva"), AT)
    assert message.envelope.smtputf8
    assert message.envelope.recipient == "éva@example.net"
    assert "To: =?utf-8?q?=C3=89va?= <éva@example.net>\r\n".encode() in message.content


def test_images_travel_beside_the_html() -> None:
    images = (
        InlineImage("one@007", "image/png", bytes(range(256)) * 3),
        InlineImage("two@007", "image/gif", b"GIF"),
    )
    message = composer(replace(EDITION, images=images)).compose(ANNA, AT)
    types = [part.get_content_type() for part in parsed(message).walk()]
    assert types == [
        "multipart/alternative", "text/plain", "multipart/related", "text/html", "image/png", "image/gif"
    ]  # fmt: skip
    found = {part["Content-ID"]: part.get_content() for part in parsed(message).walk() if part["Content-ID"]}
    assert found == {"<one@007>": bytes(range(256)) * 3, "<two@007>": b"GIF"}
    assert body(message, "html").startswith("<p>Hello Anna</p>\n")


def test_an_image_that_would_write_headers_is_refused() -> None:
    with pytest.raises(SourceError, match="cannot identify an image"):
        composer(replace(EDITION, images=(InlineImage("a>\r\nX: y", "image/png", b""),)))


def test_a_letter_says_a_machine_wrote_it_and_offers_no_list() -> None:
    edition = replace(EDITION, text="{{ urls.confirm }}", html="<a href='{{ urls.confirm }}'>yes</a>")
    message = composer(edition, issue_id=0, letter=True).compose(ANNA, AT)
    read = parsed(message)
    assert sorted(read.keys()) == [
        "Auto-Submitted", "Content-Type", "Date", "From", "MIME-Version", "Message-ID", "Subject", "To"
    ]  # fmt: skip
    assert read["Auto-Submitted"] == "auto-generated"
    token = body(message, "plain").strip().removeprefix("https://news.example.org/confirm/")
    assert SIGNER.read_confirmation(token) == Subject(0, 123)


def test_two_letters_to_one_reader_differ_in_message_id() -> None:
    edition = replace(EDITION, text="x", html="x")
    made = composer(edition, issue_id=0, letter=True)
    assert made.compose(ANNA, AT).message_id != made.compose(ANNA, AT + timedelta(seconds=1)).message_id


@pytest.mark.parametrize(("issue_id", "name"), [(7, "confirm"), (0, "click"), (0, "open"), (0, "view")])
def test_links_that_a_message_does_not_have_are_refused(issue_id: int, name: str) -> None:
    edition = replace(EDITION, html="", text=f"{{{{ urls.{name} }}}}")
    with pytest.raises(SourceError, match=f"there is no '{name}'"):
        composer(edition, issue_id=issue_id, letter=issue_id == 0)


def test_a_template_bomb_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(SourceError, match=r"^007-title: html:1: 'mul' cannot be used"):
        composer(replace(EDITION, html="{{ 'a' * 10**9 }}"))


def test_a_public_url_that_html_would_change_is_refused() -> None:
    with pytest.raises(ConfigError, match="public_url"):
        composer(public_url="https://news.example.org/'&")


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        composer().compose(ANNA, datetime(2026, 3, 4))  # noqa: DTZ001


def test_list_id_is_the_configured_one_or_made_of_the_name() -> None:
    assert list_id(NEWSLETTER) == "the-week.example.org"
    assert list_id(Newsletter(name="Ж", author_address="a@example.org")) == "newsletter.example.org"
    assert list_id(Newsletter(list_id="weekly.lists.example.org")) == "weekly.lists.example.org"


def test_feedback_id_has_four_fields_and_a_sender_of_5_to_15_characters() -> None:
    for domain in ("x.io", "a-very-long-domain-name.example.org"):
        newsletter = Newsletter(author_address=f"a@{domain}")
        made = composer(replace(EDITION, slug="007:ö"), newsletter=newsletter, segment="paid: yes")
        issue, segment, kind, sender = parsed(made.compose(ANNA, AT))["Feedback-ID"].split(":")
        assert (issue, segment, kind) == ("007-", "paid-yes", "weekly")
        assert 5 <= len(sender) <= 15


def test_dkim_hashes_the_relaxed_form_of_the_body_that_is_sent() -> None:
    seen: list[tuple[bytes, bytes]] = []

    def relaxed(lines: bytes) -> bytes:
        return re.sub(rb"[ \t]+", b" ", lines)

    def sign(headers: bytes, digest: bytes) -> bytes:
        seen.append((headers, digest))
        return b"DKIM-Signature: x\r\n"

    edition = replace(EDITION, html=EDITION.html.replace("\n", "    \t  <br>   \n"))
    message = composer(edition, dkim=Dkim(relaxed, sign)).compose(structs.replace(ANNA, name="A  B"), AT)
    headers, _, content = message.content.partition(b"\r\n\r\n")
    assert seen == [
        (headers.removeprefix(b"DKIM-Signature: x\r\n") + b"\r\n", hashlib.sha256(relaxed(content)).digest())
    ]
    assert (
        message.content.removeprefix(b"DKIM-Signature: x\r\n")
        == composer(edition).compose(structs.replace(ANNA, name="A  B"), AT).content
    )


def test_threads_share_a_composer_without_mixing_readers() -> None:
    made = composer(replace(EDITION, subject="For {{ subscriber.name }}"))
    readers = [structs.replace(ANNA, subscriber_id=at, name=f"Reader {at}") for at in range(300)]
    times = [AT + timedelta(seconds=at % 7) for at in range(300)]
    with ThreadPoolExecutor(4) as pool:
        messages = list(pool.map(made.compose, readers, times))
    alone = composer(replace(EDITION, subject="For {{ subscriber.name }}"))
    assert [alone.compose(*pair) for pair in zip(readers, times, strict=True)] == messages


words = st.text(
    st.one_of(st.sampled_from("=. \tF\nrom<&>\"'aé€🎈"), st.characters(exclude_categories=["Cs"])),
    max_size=120,
).filter(lambda text: "\0" not in text and "{" not in text)
CONSTRUCTS = [
    "{{ subscriber.name | default('you') }}", "{{ subscriber.email }}",
    "{{ subscriber.city | default('') | upper }}",
    "{{ urls.click }}/1", "{{ urls.click }}", "{{ urls.unsubscribe }}", "{{ subscriber.tags | join(', ') }}",
    "{% if subscriber.city %}in {{ subscriber.city }}{% else %}nowhere{{ urls.view }}{% endif %}",
    "{% for tag in subscriber.tags %}\n.{{ tag }}{% if not loop.last %};{% endif %}{% endfor %}",
    "{{ subscriber.name ~ ' <b>' }}", "{{ '{' }}", "{{ subscriber.name | e }}",
]  # fmt: skip
templates = st.lists(st.one_of(words, st.sampled_from(CONSTRUCTS)), max_size=12).map("".join)
data = st.text(
    st.one_of(st.sampled_from("=. \tF\r\nrom<&>{}%\0"), st.characters(exclude_categories=["Cs"])), max_size=80
)


def plain_jinja(source: str, recipient: Recipient, *, autoescape: bool) -> str:
    """Return what Jinja alone makes of a template, with line ends as LF."""
    token = SIGNER.link(Subject(7, recipient.subscriber_id))
    names = {"unsubscribe": "u", "click": "c"}
    urls = {name: f"https://news.example.org/{path}/{token}" for name, path in names.items()}
    urls["view"] = "https://news.example.org/archive/007-title"
    subscriber = {
        "name": recipient.name,
        "email": recipient.email,
        "tags": recipient.tags,
        **recipient.attributes,
    }
    return str(_plain(autoescape).from_string(source).render(subscriber=subscriber, urls=urls))


@cache
def _plain(autoescape: bool) -> jinja2.Environment:
    environment = jinja2.Environment(autoescape=autoescape, keep_trailing_newline=True)
    environment.filters["default"] = lambda value, other: value or other
    return environment


def unix(text: str) -> str:
    return re.sub("\r\n?", "\n", text)


readers = st.builds(
    lambda name, city, tags: Recipient(
        9, "anna@example.net", unix(name), {"city": unix(city)}, tuple(map(unix, tags))
    ),
    data,
    data,
    st.lists(data, max_size=3),
)


def reader(name: str, city: str, *tags: str) -> Recipient:
    return Recipient(9, "anna@example.net", name, {"city": city}, tags)


@given(
    templates,
    templates,
    st.lists(readers, min_size=4, max_size=4),
    st.sampled_from(["", " {{ subscriber.name }}"]),
)
@settings(max_examples=100, deadline=None)
@example("From ", ".", [reader("", ".")], "")
@example(
    "x" * 75 + "{{ subscriber.name }} ", "= ", [reader("\n.\n", "From ", ".", "="), reader("", "", "")], ""
)
def test_a_message_says_what_jinja_says(
    text: str, html: str, recipients: list[Recipient], subject: str
) -> None:
    """Four hundred readers: four of each issue."""
    composing = composer(replace(EDITION, text=text, html=html, subject=f"Issue{subject}"))
    for recipient in recipients:
        message = composing.compose(recipient, AT)
        whole = parsed(message)
        for kind, source in (("plain", text), ("html", html)):
            ended = source if source.endswith("\n") else source + "\n"
            expected = plain_jinja(ended, recipient, autoescape=kind == "html")
            part = whole.get_body(preferencelist=(kind,))
            assert isinstance(part, EmailMessage)
            assert expected == part.get_payload(decode=True).decode().replace("\r\n", "\n")  # type: ignore[union-attr]
        head, _, content = message.content.partition(b"\r\n\r\n")
        lines = content.split(b"\r\n")
        assert all(len(line) <= 76 and not line.startswith((b".", b"From ")) for line in lines)
        assert all(len(line) <= 998 for line in head.split(b"\r\n"))
        assert b"\r" not in message.content.replace(b"\r\n", b"")
        assert b"\n" not in message.content.replace(b"\r\n", b"")
    assert len(set(parsed(message).keys())) == len(parsed(message).keys()) == 11
