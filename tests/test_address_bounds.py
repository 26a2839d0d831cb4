"""Addresses at the bounds of RFC 5321 and RFC 5890, and addresses that could smuggle something."""

from __future__ import annotations

import idna
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailer.address import Envelope, check_header_text, mailbox_in, parse_address, parse_domain, shown
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
        (".".join(["a" * 49] * 5) + ".aaa", True),
        (".".join(["a" * 49] * 5) + ".aaaa", False),
        (".".join(["a" * 63] * 4) + ".org", False),
    ],
)
def test_domain_is_within_bounds_as_a_labels(domain: str, allowed: bool) -> None:
    if allowed:
        parsed = parse_domain(domain)
        assert len(parsed) <= 253
        assert parse_domain(f"{domain}.") == parsed
        assert max(map(len, parsed.split("."))) <= 63
    else:
        with pytest.raises(AddressError):
            parse_domain(domain)
        with pytest.raises(AddressError):
            parse_address(f"a@{domain}")


LONG = ".".join(["a" * 37] * 5)


@pytest.mark.parametrize(
    ("local", "domain"),
    [
        ("a" * 60, f"{LONG}.aaa"),
        ("a" * 59, f"{LONG}.test"),
        ('"' + "a b" * 18 + 'a"', f"{LONG}.aaaa"),
        ("ü" * 29, f"{LONG}.aaa"),
        # As A-labels, each of these is ten octets long with its dot.
        ("ü" * 5, ".".join(["aü"] * 24) + ".org"),
    ],
)
def test_address_has_up_to_254_octets_with_its_domain_in_a_labels(local: str, domain: str) -> None:
    octets = len(local.encode()) + 1 + len(parse_domain(domain))
    assert octets <= 254
    longest = f"{'a' * (254 - octets)}{local}" if local[0] != '"' else f'"{"a" * (254 - octets)}{local[1:]}'
    assert len(str(parse_address(f"{longest}@{domain}")).encode()) == 254
    with pytest.raises(AddressError):
        parse_address(f"{longest[:1]}a{longest[1:]}@{domain}")


@pytest.mark.parametrize("local", ["ana", "ünal"])
@pytest.mark.parametrize(
    ("top", "allowed"),
    [
        ("org", True),
        ("test", True),
        ("example", True),
        ("arpa", False),
        ("INVALID", False),
        ("local", False),
        ("localhost", False),
        ("onion", False),
    ],
)
def test_no_mail_goes_to_names_with_another_use(local: str, top: str, allowed: bool) -> None:
    text = f"{local}@news.{top}"
    if allowed:
        assert str(parse_address(text)) == text.lower()
    else:
        with pytest.raises(AddressError, match="special-use"):
            parse_address(text)


def test_nobody_is_asked_whether_a_domain_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr("dns.resolver.Resolver.resolve", lambda self, *given, **options: asked.append(given))
    assert parse_address("ünal@example.org").domain == "example.org"
    assert asked == []


@pytest.mark.parametrize("text", ["ana\x00@example.org", "ana@exa\nmple.org", "ana\u2028@example.org"])
def test_control_characters_are_named(text: str) -> None:
    with pytest.raises(AddressError, match="must not contain control characters"):
        parse_address(text)


@pytest.mark.parametrize(("local", "needed"), [("ana", False), ("a=b", False), ("ünal", True)])
def test_only_a_local_part_beyond_ascii_needs_smtputf8(local: str, needed: bool) -> None:
    assert parse_address(f"{local}@bücher.example").needs_smtputf8 is needed


def test_envelope_needs_no_smtputf8_unless_told_and_never_changes() -> None:
    envelope = Envelope("a@example.org", "b@example.org")
    assert envelope.smtputf8 is False
    assert hash(envelope) == hash(Envelope("a@example.org", "b@example.org", False))
    with pytest.raises(AttributeError):
        envelope.sender = "c@example.org"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("written", "domain"),
    [
        ("Example.ORG", "example.org"),
        ("BÜCHER.Example", "xn--bcher-kva.example"),
        ("ｅｘａｍｐｌｅ.org", "example.org"),
        ("example。org。", "example.org"),
        (" example.org. ", "example.org"),
    ],
)
def test_domain_is_taken_as_people_write_it(written: str, domain: str) -> None:
    assert parse_domain(written) == domain


@pytest.mark.parametrize("written", ["", ".", "。", "a..b", "ü..b", "a。。b", "-a.org", "a b.org"])
def test_what_is_no_domain_is_refused(written: str) -> None:
    with pytest.raises(AddressError, match="not a domain name"):
        parse_domain(written)


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


@pytest.mark.parametrize(
    "written", ["Ana <ana@example.org", "ana@example.org>x", "<<ana@example.org>", "é <a> <b>", "mailt:é"]
)
def test_what_is_not_around_an_address_stays(written: str) -> None:
    assert mailbox_in(written) == written


@given(st.text(max_size=60))
def test_finding_never_fails_and_is_settled_after_two_steps(text: str) -> None:
    found = mailbox_in(mailbox_in(text))
    assert len(found) <= len(text)


def test_text_in_an_error_is_cut_off_only_if_it_is_too_long() -> None:
    assert shown("a" * 120) == f"'{'a' * 120}'"
    assert shown("a" * 121) == f"'{'a' * 119}…'"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\nb", "U+000A"),
        ("a\x7f", "U+007F"),
        ("\u2029a", "U+2029"),
        ("a\u202eb", "direction control U+202E"),
        ("\u200ea", "direction control U+200E"),
        ("=?utf-8?q?a?=", "'=?'"),
    ],
)
def test_header_text_that_could_deceive_is_refused_with_its_field(text: str, said: str) -> None:
    with pytest.raises(AddressError) as caught:
        check_header_text(text, field="subject")
    assert caught.value.message.startswith("subject: contains ")
    assert said in caught.value.message


def test_other_header_text_is_unchanged() -> None:
    assert check_header_text("Grüße = ?", field="subject") == "Grüße = ?"
