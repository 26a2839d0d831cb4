"""Addresses at the bounds of RFC 5321 and RFC 5890, and addresses that could smuggle something."""

from __future__ import annotations

import idna
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailer.address import mailbox_in, parse_address, parse_domain, shown
from mailer.errors import AddressError

WIDE = "ü"


@pytest.mark.parametrize(
    ("local", "allowed"),
    [
        ("a" * 64, True),
        ("a" * 65, False),
        ("a." * 31 + "aa", True),
        ("a." * 32 + "a", False),
        (WIDE * 32, True),
        (WIDE * 33, False),
        ("a" + WIDE * 32, False),
        ('"' + "a" * 62 + '"', True),
        ('"' + "a b" * 20 + 'ab"', True),
        ('"' + "a b" * 21 + '"', False),
    ],
)
def test_local_part_has_up_to_64_octets(local: str, allowed: bool) -> None:
    if allowed:
        assert len(parse_address(f"{local}@example.org").local.encode()) <= 64
    else:
        with pytest.raises(AddressError):
            parse_address(f"{local}@example.org")


@pytest.mark.parametrize(
    ("domain", "allowed"),
    [
        ("a" * 63 + ".org", True),
        ("a" * 64 + ".org", False),
        ("ü" * 40 + ".org", True),
        ("ü" * 60 + ".org", False),
        (".".join(["a" * 60] * 4) + ".org", True),
        (".".join(["a" * 63] * 4) + ".org", False),
    ],
)
def test_domain_is_within_bounds_as_a_labels(domain: str, allowed: bool) -> None:
    if allowed:
        parsed = parse_domain(domain)
        assert len(parsed) <= 253
        assert max(map(len, parsed.split("."))) <= 63
    else:
        with pytest.raises(AddressError):
            parse_domain(domain)
        with pytest.raises(AddressError):
            parse_address(f"a@{domain}")


@given(st.text(st.sampled_from("aXn-7_ ."), min_size=1, max_size=80))
@example("xn--mnchen-3ya.de")
@example("a--b.example")
@example("ab--c.example")
@example("example.org.")
def test_plain_domain_is_read_as_idna_reads_it(domain: str) -> None:
    try:
        expected = idna.encode(domain.strip().rstrip("."), uts46=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError):
        expected = "refused"
    try:
        parsed = parse_domain(domain)
    except AddressError:
        parsed = "refused"
    assert parsed == expected


@given(st.text(st.sampled_from("aü.-é中"), min_size=1, max_size=80))
def test_no_domain_comes_out_beyond_the_bounds(name: str) -> None:
    try:
        parsed = parse_domain(f"{name}.org")
    except AddressError:
        return
    assert parsed.isascii()
    assert all(1 <= len(label) <= 63 for label in parsed.split("."))


@pytest.mark.parametrize(
    "address",
    [
        "=?utf-8?q?ana?=@example.org",
        '"=?utf-8?q?ana?="@example.org',
        '"a SIZE=1"@example.org',
        '"SIZE=1"@example.org',
        '"a> SIZE=1"@example.org',
        '"a> BODY=8BITMIME"@example.org',
        '"a> NOTIFY=NEVER ORCPT=rfc822;x"@example.org',
        '"<a>"@example.org',
    ],
)
def test_encoded_words_and_parameters_are_no_local_parts(address: str) -> None:
    with pytest.raises(AddressError):
        parse_address(address)


@pytest.mark.parametrize("address", ["a=b@example.org", '"a b"@example.org', "bounce+a=b.org@example.org"])
def test_harmless_ones_are_taken(address: str) -> None:
    assert str(parse_address(address)) == address


@given(
    st.sampled_from(
        [
            "{}",
            "Ana <{}>",
            "<{}>",
            '"Pop, Ana" <{}>',
            "mailto:{}",
            "\u200b{}\u00a0",
            "\ufeff{}",
            " {}\t",
            "\u202a{}\u202c",
        ]
    )
)
def test_address_is_found_in_what_is_copied_around_it(written: str) -> None:
    assert mailbox_in(written.format("ana@example.org")) == "ana@example.org"


@given(st.text(max_size=60))
def test_finding_never_fails_and_is_settled_after_two_steps(text: str) -> None:
    found = mailbox_in(mailbox_in(text))
    assert len(found) <= len(text)


def test_text_in_an_error_is_cut_off_only_if_it_is_too_long() -> None:
    assert shown("a" * 120) == f"'{'a' * 120}'"
    assert shown("a" * 121) == f"'{'a' * 119}…'"
