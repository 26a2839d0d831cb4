"""Header fields as octets."""

import email
import email.policy
import re
from email.header import decode_header, make_header
from email.utils import getaddresses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.errors import AddressError
from mailer.rendering.message.headers import encoded_words, mailbox, mailto, recipient_address, unstructured

ENCODED_WORD = re.compile(r"=\?utf-8\?[qb]\?[^ ?]*\?=")
anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
printable = st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"]), max_size=150)


def decoded(field: bytes) -> str:
    value = re.sub("\r\n(?=[ \t])", "", field.decode().partition(": ")[2].removesuffix("\r\n"))
    return str(make_header(decode_header(value)))


def one_field(octets: bytes) -> list[bytes]:
    """Return the lines of a field after checking that there is one only, properly folded."""
    assert octets.endswith(b"\r\n")
    lines = octets.removesuffix(b"\r\n").split(b"\r\n")
    assert all(line.startswith(b" ") and line.strip() for line in lines[1:])
    assert b"\r" not in octets.replace(b"\r\n", b"")
    assert b"\n" not in octets.replace(b"\r\n", b"")
    return lines


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (b"Subject: The week\r\n", "The week"),
        (b"Subject: =?utf-8?q?Caf=C3=A9_today?=\r\n", "Café today"),
        (b"Subject: =?utf-8?b?8J+OiPCfjog=?=\r\n", "🎈🎈"),
        (b"Subject: =?utf-8?b?PT91dGYtOD9xP2FkbWluPz0=?=\r\n", "=?utf-8?q?admin?="),
        (b"Subject: a Bcc: x\r\n", "a\r\nBcc: x"),
        (b"Subject: a b\r\n", "a\x00\u202eb"),
    ],
)
def test_subject_is_written_as(octets: bytes, text: str) -> None:
    assert unstructured("Subject", text) == octets


@given(anything)
def test_subject_decodes_to_its_text_with_blanks_collapsed(text: str) -> None:
    field = unstructured("Subject", text)
    kept = re.sub("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]", " ", text)
    assert decoded(field) == " ".join(kept.split())
    assert all(len(line) <= 76 for line in one_field(field))


@given(printable.filter(bool), st.integers(min_value=40, max_value=75))
def test_encoded_words_hold_whole_characters_and_75_columns(text: str, room: int) -> None:
    words = encoded_words(text, room=room).split("\r\n ")
    assert len(words[0]) <= room
    assert all(len(word) <= 75 and ENCODED_WORD.fullmatch(word) for word in words)
    parts = [str(make_header(decode_header(word))) for word in words]
    assert "".join(parts) == text


@pytest.mark.parametrize(
    ("octets", "name"),
    [
        (b"To: a@example.org\r\n", ""),
        (b"To: Anna Lind <a@example.org>\r\n", "Anna Lind"),
        (b'To: "Lind, Anna" <a@example.org>\r\n', "Lind, Anna"),
        (b'To: "A \\"B\\" \\\\ C" <a@example.org>\r\n', 'A "B" \\ C'),
        (b"To: =?utf-8?q?=C3=89va?= <a@example.org>\r\n", "Éva"),
        (b'To: "Ana @ Example" <a@example.org>\r\n', "Ana @ Example"),
        (b"To: {{7*7}} <a@example.org>\r\n", "{{7*7}}"),
    ],
)
def test_mailbox_is_written_as(octets: bytes, name: str) -> None:
    assert mailbox("To", name, "a@example.org") == octets


@pytest.mark.parametrize(
    "name",
    ["x\r\nBcc: x@example.net", "a\x00b", "=?utf-8?q?admin?=", "\u202egro.knab", "a\u2028b",
     "ceo@bank.example", "x" * 201, " "],
)  # fmt: skip
def test_a_name_that_must_not_be_shown_is_left_out(name: str) -> None:
    assert mailbox("To", name, "a@example.org") == b"To: a@example.org\r\n"


@given(printable)
def test_mailbox_reads_back_with_its_name_or_none(name: str) -> None:
    field = mailbox("To", name, "anna.lind@example.org")
    assert all(len(line) <= 78 for line in one_field(field))
    parsed = email.message_from_bytes(field + b"\r\n", policy=email.policy.compat32)["To"]
    ((shown, address),) = getaddresses([re.sub("\r\n(?=[ ])", "", parsed)])
    assert address == "anna.lind@example.org"
    assert str(make_header(decode_header(shown))) in (" ".join(name.split()), "")


def test_an_address_beyond_ascii_is_raw_utf8() -> None:
    assert (
        mailbox("To", "Éva", "éva@example.org") == "To: =?utf-8?q?=C3=89va?= <éva@example.org>\r\n".encode()
    )


@pytest.mark.parametrize("address", ["a@example.org", '"a b"@example.org', "éva@example.org"])
def test_a_stored_address_is_taken_as_it_is(address: str) -> None:
    assert recipient_address(address) == address


@pytest.mark.parametrize(
    "address", ["a", "a@example.org\r\nBcc: b", "a>@example.org", "a@", "a b@example.org"]
)
def test_anything_but_an_address_is_refused(address: str) -> None:
    with pytest.raises(AddressError):
        recipient_address(address)


def test_mailto_escapes_what_urls_reserve() -> None:
    assert mailto("list%3F?x@example.org") == "mailto:list%253F%3Fx@example.org"
