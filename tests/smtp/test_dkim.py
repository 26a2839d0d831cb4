from __future__ import annotations

import hashlib
import re
from pathlib import Path

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from mailer.errors import ConfigError
from mailer.smtp.dkim import (
    SIGNED,
    DkimSigner,
    PrivateKey,
    SigningKey,
    body_digest,
    dns_record,
    generate_key,
    load_key,
    relaxed_lines,
)

HEADERS = (
    b"From: Robin <robin@example.org>\r\n"
    b"To: reader@example.com\r\n"
    b"Subject: Tuesday's\r\n =?utf-8?q?letter?=\r\n"
    b"Date: Tue, 06 Oct 2026 08:00:00 +0000\r\n"
    b"Message-ID: <1.2@example.org>\r\n"
    b"Reply-To: answers@example.org\r\n"
    b"MIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: quoted-printable\r\n"
    b"List-Id: <letter.example.org>\r\n"
    b"List-Unsubscribe: <https://example.org/u/x>\r\n"
    b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
    b"Feedback-ID: 7:all:issue:exampleorg\r\n"
    b"X-Unsigned: yes\r\n"
)
BODY = b"Good morning.\r\n\r\nBye.\r\n"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> list[SigningKey]:
    folder = tmp_path_factory.mktemp("keys")
    (folder / "rsa.pem").write_bytes(generate_key("rsa"))
    (folder / "ed25519.pem").write_bytes(generate_key("ed25519"))
    return [
        SigningKey("example.org", "r1", load_key(folder / "rsa.pem")),
        SigningKey("example.org", "e1", load_key(folder / "ed25519.pem")),
    ]


def verifies(keys: list[SigningKey], message: bytes) -> list[bool]:
    """Return for each signature of the message, from the top, whether dkimpy accepts it."""
    published = {
        f"{key.selector}._domainkey.{key.domain}.".encode(): dns_record(key.key).encode() for key in keys
    }

    def dnsfunc(name: bytes, timeout: int = 5) -> bytes | None:
        return published.get(name)

    def verify(place: int) -> bool:
        try:
            return bool(dkim.DKIM(message).verify(idx=place, dnsfunc=dnsfunc))
        except dkim.ValidationError as error:
            if "body hash mismatch" not in str(error):
                raise
            return False

    return [verify(place) for place in range(len(keys))]


def test_both_signatures_verify(keys: list[SigningKey]) -> None:
    signed = DkimSigner(keys).sign(HEADERS, BODY) + HEADERS + b"\r\n" + BODY
    assert verifies(keys, signed) == [True, True]


header_text = st.text(st.sampled_from("abc \t:;=<>é"), min_size=1, max_size=40).map(str.encode)
body_lines = st.lists(
    st.binary(max_size=30).map(lambda line: line.replace(b"\r", b"").replace(b"\n", b""))
    | st.text(st.sampled_from("ab \t."), max_size=12).map(str.encode),
    max_size=12,
)


@given(
    subject=header_text,
    fold=st.sampled_from([b" ", b"\r\n ", b"\r\n\t", b" \r\n \t "]),
    lines=body_lines,
    last=st.sampled_from([b"", b"end"]),
)
@settings(max_examples=150, deadline=None)
def test_any_message_verifies(
    keys: list[SigningKey], subject: bytes, fold: bytes, lines: list[bytes], last: bytes
) -> None:
    headers = HEADERS + b"List-Id:" + subject + fold + b"x" + subject + b"\r\n"
    body = b"".join(line + b"\r\n" for line in lines) + last
    signed = DkimSigner(keys).sign(headers, body) + headers + b"\r\n" + body
    assert verifies(keys, signed) == [True, True]


@given(lines=body_lines, cut=st.integers(0, 12))
def test_body_hash_matches_the_standard_and_may_be_prepared_in_parts(lines: list[bytes], cut: int) -> None:
    # RFC 6376 section 3.4.4, word by word.
    relaxed = [re.sub(rb"[ \t]+", b" ", line).rstrip(b" ") for line in lines]
    while relaxed and not relaxed[-1]:
        relaxed.pop()
    expected = hashlib.sha256(b"".join(line + b"\r\n" for line in relaxed)).digest()
    assert body_digest(b"".join(line + b"\r\n" for line in lines)) == expected
    parts = [b"".join(line + b"\r\n" for line in part) for part in (lines[:cut], lines[cut:])]
    assert body_digest(b"".join(map(relaxed_lines, parts))) == expected


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"From: Robin", b"From: evil@example.net\r\nFrom: Robin"),
        (b"X-Unsigned: yes", b"From: evil@example.net"),
        (b"=One-Click", b"=Two-Click"),
        (b"/u/x>", b"/u/y>"),
        (b"Good morning", b"Good evening"),
        (b"Bye.\r\n", b"Bye.\r\nMore\r\n"),
        *((name.title() + b": ", name.title() + b": x") for name in sorted(SIGNED - {b"from"})),
    ],
)
def test_change_breaks_both_signatures(keys: list[SigningKey], old: bytes, new: bytes) -> None:
    signed = DkimSigner(keys).sign(HEADERS, BODY) + HEADERS + b"\r\n" + BODY
    at = re.search(b"(?i)" + re.escape(old), signed)
    assert at is not None
    assert verifies(keys, signed[: at.start()] + new + signed[at.end() :]) == [False, False]


def test_unsigned_fields_may_change(keys: list[SigningKey]) -> None:
    signed = DkimSigner(keys).sign(HEADERS, BODY) + HEADERS + b"\r\n" + BODY
    assert verifies(keys, b"Return-Path: <>\r\n" + signed.replace(b"X-Unsigned: yes", b"X-Unsigned: no")) == [
        True,
        True,
    ]


def test_same_message_has_the_same_signature(keys: list[SigningKey]) -> None:
    assert DkimSigner(keys).sign(HEADERS, BODY) == DkimSigner(keys).sign(HEADERS, BODY)


def test_signature_field_keeps_the_line_limit_and_signs_no_length(keys: list[SigningKey]) -> None:
    field = DkimSigner(keys).sign(HEADERS, BODY)
    assert max(map(len, field.split(b"\r\n"))) <= 78
    assert field.endswith(b"\r\n")
    assert b"l=" not in field.replace(b"rel=", b"")
    assert b"return-path" not in field


def test_message_without_author_is_not_signed(keys: list[SigningKey]) -> None:
    with pytest.raises(ValueError, match="From"):
        DkimSigner(keys).sign(b"To: x@example.org\r\n", BODY)


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption(),
    )


def test_short_rsa_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "short.pem"
    path.write_bytes(pem(rsa.generate_private_key(65537, 1024)))
    with pytest.raises(ConfigError, match=r"short\.pem: an RSA key of 1024 bits is too short"):
        load_key(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        pem(ec.generate_private_key(ec.SECP256R1())),
        pem(rsa.generate_private_key(65537, 2048), b"x"),
    ],
    ids=["empty", "text", "elliptic curve", "encrypted"],
)
def test_file_that_is_no_signing_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"key\.pem: "):
        load_key(path)


def test_missing_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.pem: cannot read"):
        load_key(tmp_path / "none.pem")


def test_dns_record_names_the_kind(keys: list[SigningKey]) -> None:
    rsa_key: PrivateKey = keys[0].key
    assert dns_record(rsa_key).startswith("v=DKIM1; k=rsa; p=MII")
    assert re.fullmatch(r"v=DKIM1; k=ed25519; p=[A-Za-z0-9+/]{43}=", dns_record(keys[1].key))
