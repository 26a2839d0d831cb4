"""Signed strings that go out in messages and come back: links, return paths, message identifiers.

A token names one delivery (issue and subscriber) for one purpose. It is the packed pair and an
HMAC-SHA256 over it, under a key derived from the operator's secret and the purpose (HKDF-style,
RFC 5869 section 2.3), so a token made for one purpose is invalid for another. Tokens do not expire:
an unsubscribe link must work for as long as the email can be found (RFC 8058; CASL: 60 days at least).
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Final

from msgspec import Struct

from mailer.errors import TokenError

_DIGITS: Final = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS: Final = [first + second for first in _DIGITS for second in _DIGITS]
# 96 bits; 80 are enough against guessing over a network.
_MAC_OCTETS: Final = 12
_MAX_ID: Final = 2**63


class Purpose(StrEnum):
    """The purpose of a token; each has its own key."""

    LINK = "link"
    CONFIRM = "confirm"
    RETURN_PATH = "return-path"


class Subject(Struct, frozen=True):
    """The issue and subscriber that a token names. `issue_id` is 0 if there is no issue."""

    issue_id: int
    subscriber_id: int


class Signer:
    """Makes and checks tokens. `secrets` are ordered from oldest to newest; the last signs, any verifies."""

    __slots__ = ("_keys",)

    def __init__(self, secrets: Sequence[bytes]) -> None:
        if not secrets or any(len(secret) < 16 for secret in secrets):
            raise ValueError("at least one secret of 16 octets or more is needed")
        # Keyed once: copying an HMAC costs a third of keying a new one.
        self._keys = {
            purpose: [
                hmac.new(
                    hmac.digest(secret, b"mailer/" + purpose.value.encode() + b"/1", "sha256"),
                    digestmod="sha256",
                )
                for secret in reversed(secrets)
            ]
            for purpose in Purpose
        }

    def link(self, subject: Subject) -> str:
        """Return a delivery's token for links. Mail programs may change its case."""
        return self._signed(subject, Purpose.LINK)

    def confirmation(self, subject: Subject) -> str:
        """Return the token that confirms a subscription. Mail programs may change its case."""
        return self._signed(subject, Purpose.CONFIRM)

    def return_path(self, subject: Subject) -> str:
        """Return a delivery's token for the local part of the return path: base32, which is shorter."""
        return _base32(self._raw(subject, Purpose.RETURN_PATH))

    def read_link(self, token: str) -> Subject:
        """Return the subject of a link token, or raise `TokenError`."""
        return self._read_any(token, Purpose.LINK)

    def read_confirmation(self, token: str) -> Subject:
        """Return the subject of a confirmation token, or raise `TokenError`."""
        return self._read_any(token, Purpose.CONFIRM)

    def read_return_path(self, token: str) -> Subject:
        """Return the delivery that a return-path token names, or raise `TokenError`. Case is ignored."""
        return self._read(_decode_base32(token), Purpose.RETURN_PATH)

    def _signed(self, subject: Subject, purpose: Purpose) -> str:
        """Return a token in hexadecimal: it survives changes of case and is the fastest to encode."""
        return self._raw(subject, purpose).hex()

    def _raw(self, subject: Subject, purpose: Purpose) -> bytes:
        packed = _pack(subject.issue_id) + _pack(subject.subscriber_id)
        return packed + _mac(self._keys[purpose][0], packed)

    def _read_any(self, token: str, purpose: Purpose) -> Subject:
        """Read a hexadecimal token, or a base64url one from before links were hexadecimal."""
        try:
            return self._read(binascii.unhexlify(token), purpose)
        except (ValueError, TokenError):
            return self._read(_decode_base64url(token), purpose)

    def _read(self, raw: bytes, purpose: Purpose) -> Subject:
        packed, mac = raw[:-_MAC_OCTETS], raw[-_MAC_OCTETS:]
        for key in self._keys[purpose]:
            if hmac.compare_digest(_mac(key, packed), mac):
                issue_id, rest = _unpack(packed)
                subscriber_id, rest = _unpack(rest)
                if rest:
                    break
                return Subject(issue_id, subscriber_id)
        raise TokenError("the link is damaged or not ours")


def _mac(key: hmac.HMAC, packed: bytes) -> bytes:
    prepared = key.copy()
    prepared.update(packed)
    return prepared.digest()[:_MAC_OCTETS]


@lru_cache(maxsize=256)
def _pack(number: int) -> bytes:
    """Return a number below 2**63 as one octet of length and its big-endian octets."""
    if not 0 <= number < _MAX_ID:
        raise ValueError(f"{number} is not an identifier")
    size = (number.bit_length() + 7) // 8
    return bytes([size]) + number.to_bytes(size, "big")


def _base32(raw: bytes) -> str:
    """Return octets in lower-case base32 (RFC 4648 section 6) without padding.

    `base64.b32encode` is written in Python, too, and takes twice as long.
    """
    bits = len(raw) * 8
    digits = -(-bits // 5)
    number = int.from_bytes(raw, "big") << -bits % 10
    pairs = [_PAIRS[number >> shift & 1023] for shift in range(bits + -bits % 10 - 10, -1, -10)]
    return "".join(pairs)[:digits]


def _unpack(packed: bytes) -> tuple[int, bytes]:
    if not packed or packed[0] > 8 or len(packed) < 1 + packed[0]:
        raise TokenError("the link is damaged or not ours")
    end = 1 + packed[0]
    return int.from_bytes(packed[1:end], "big"), packed[end:]


def _decode_base32(token: str) -> bytes:
    """Decode base32, ignoring case; reject padding, blanks and unused bits."""
    try:
        # Encode first: upper() turns some other letters into ASCII ("ß" becomes "SS").
        raw = base64.b32decode(token.encode("ascii").upper() + b"=" * (-len(token) % 8))
    except (binascii.Error, ValueError) as error:
        raise TokenError("the link is damaged or not ours") from error
    if base64.b32encode(raw).decode("ascii").rstrip("=") != token.upper():
        raise TokenError("the link is damaged or not ours")
    return raw


def _decode_base64url(token: str) -> bytes:
    """Decode base64url (RFC 4648 section 5); reject padding, blanks and unused bits."""
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (binascii.Error, ValueError) as error:
        raise TokenError("the link is damaged or not ours") from error
    if base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=") != token:
        raise TokenError("the link is damaged or not ours")
    return raw
