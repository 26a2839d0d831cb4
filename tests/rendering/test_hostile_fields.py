"""What a subscriber's data hold is text: it is harmless in the message, or refused with the field named."""

from __future__ import annotations

import email
import email.policy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from mailer.errors import RecipientError
from mailer.rendering.edition import Edition
from mailer.rendering.message import Message, Recipient
from tests.rendering.message.test_composer import ANNA, AT, EDITION, composer

HOSTILE = [
    "{{7*7}}", "{% raw %}", "{{ subscriber.email }}", "x\r\nBcc: b@example.net", "x\nBcc: b@example.net",
    "x\rBcc: b@example.net", "x\r\n\r\n<script>", "a\x00b", "=?utf-8?q?admin?=", "=?utf-8?b?YWRtaW4=?=",
    "\u202egro.knab", "\u2066admin\u2069", "x\u2028Bcc: b@example.net", "x\x85Bcc: b@example.net",
    "\r\n.\r\nMAIL FROM:<a@b.example>", "\n.\n", ".", "From me", "<script>alert(1)</script>", '"><img src=x>',
    "a" * 2_000, "é" * 500, "\ud7ff", "<b@example.net>", "a@example.net, b@example.net", "\\", '"',
    "%0d%0aBcc: x",
]  # fmt: skip
FIELDS = ["name", "email", "attribute", "tag"]


def with_field(field: str, value: str) -> Recipient:
    changes: dict[str, dict[str, Any]] = {
        "name": {"name": value},
        "email": {"email": value},
        "attribute": {"attributes": {"city": value}},
        "tag": {"tags": (value,)},
    }
    return structs.replace(ANNA, **changes[field])


def everywhere() -> Edition:
    """An issue that puts every field into the subject, the text and the HTML."""
    said = "{{ subscriber.name }} {{ subscriber.city }} {{ subscriber.tags | join(' ') }}"
    return replace(
        EDITION, subject=f"For {said}", text=f"{said}\n{{{{ urls.unsubscribe }}}}\n", html=f"<p>{said}</p>"
    )


PLAIN = composer(everywhere()).compose(ANNA, AT)


def check(message: Message) -> None:
    """Hold a message against one with harmless data: the same header, the same parts, one recipient."""
    read = email.message_from_bytes(message.content, policy=email.policy.default)
    plain = email.message_from_bytes(PLAIN.content, policy=email.policy.default)
    assert read.keys() == plain.keys()
    assert [part.get_content_type() for part in read.walk()] == [
        part.get_content_type() for part in plain.walk()
    ]
    for name in ("From", "List-Unsubscribe-Post", "MIME-Version", "List-Id"):
        assert read[name] == plain[name]
    assert len(read["To"].addresses) == 1
    assert read["To"].addresses[0].addr_spec == message.envelope.recipient
    assert not read.defects
    head, _, content = message.content.partition(b"\r\n\r\n")
    assert not any(octet in head for octet in (b"\x00", b"\xe2\x80\xae", b"\xc2\x85", b"\xe2\x80\xa8"))
    assert b"\r" not in message.content.replace(b"\r\n", b"")
    assert b"\n" not in message.content.replace(b"\r\n", b"")
    assert b"\r\n.\r\n" not in message.content
    assert all(len(line) <= 76 for line in content.split(b"\r\n"))
    assert all(len(line) <= 998 for line in head.split(b"\r\n"))
    html = read.get_body(preferencelist=("html",))
    assert html is not None
    assert "<script" not in html.get_content()
    assert "<img src=x" not in html.get_content()
    assert "49" not in html.get_content()


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_data_are_harmless_or_refused_with_the_field_named(field: str, value: str) -> None:
    try:
        message = composer(everywhere()).compose(with_field(field, value), AT)
    except RecipientError as error:
        refused = error.field
    else:
        refused = ""
        check(message)
    assert refused in {
        "",
        {"attribute": "subscriber.city", "tag": "subscriber.tags"}.get(field, f"subscriber.{field}"),
    }


@given(st.sampled_from(FIELDS), st.text(max_size=100), st.sampled_from(HOSTILE))
@settings(deadline=None)
def test_any_data_are_harmless_or_refused(field: str, text: str, hostile: str) -> None:
    try:
        message = composer(everywhere()).compose(with_field(field, text + hostile), AT)
    except RecipientError as error:
        assert error.field.startswith("subscriber")  # noqa: PT017 - either is right
    else:
        if "49" not in text and "<script" not in text:
            check(message)
