"""Quoted-printable in pieces."""

import quopri
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailer.rendering.message.quoted_printable import encode

awkward = st.text(
    st.one_of(st.sampled_from("=. \tF\r\nrom aé€🎈\x00"), st.characters(exclude_categories=["Cs"])),
    max_size=400,
)
pieces = st.lists(
    st.one_of(awkward, st.sampled_from(["", ".", "From me", "=", " ", "\n", "x" * 75, "x" * 76]))
)


def lines_of(text: str) -> str:
    return re.sub("\r\n?", "\n", text)


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (b"", ""),
        (b"Anna=\r\n", "Anna"),
        (b"a=3Db=\r\n", "a=b"),
        (b"=C3=A9t=C3=A9\r\n", "été\n"),
        (b"=2E\r\n=2E.=\r\n", ".\n.."),
        (b"=46rom here\r\nFrom\r\n", "From here\nFrom\n"),
        (b"blank=20\r\ntab=09\r\n", "blank \ntab\t\n"),
        (b"one\r\ntwo\r\nthree\r\n", "one\rtwo\r\nthree\n"),
        (b"?=\r\n", "\ud800"),
    ],
)
def test_text_is_written_as(octets: bytes, text: str) -> None:
    assert encode(text) == octets


def test_a_line_of_75_columns_stays_whole_and_76_is_broken() -> None:
    assert encode("x" * 75 + "\n") == b"x" * 75 + b"\r\n"
    assert encode("x" * 76 + "\n") == b"x" * 75 + b"=\r\nx\r\n"


@given(pieces)
@example(["x" * 74 + "=", "." * 100])
@example(["é" * 100, " " * 200 + "\n", "From " * 40])
def test_joined_pieces_decode_to_the_joined_text(texts: list[str]) -> None:
    decoded = quopri.decodestring(b"".join(map(encode, texts))).replace(b"\r\n", b"\n")
    assert decoded == "".join(map(lines_of, texts)).encode()


@given(pieces)
def test_every_line_is_fit_for_the_wire(texts: list[str]) -> None:
    octets = b"".join(map(encode, texts))
    assert octets == b"" or octets.endswith(b"\r\n")
    assert octets.replace(b"\r\n", b"").translate(None, bytes(range(0x20, 0x7F)) + b"\t") == b""
    for line in octets.split(b"\r\n"):
        assert len(line) <= 76
        assert not line.startswith((b".", b"From "))
        assert line == line.rstrip(b" \t")
