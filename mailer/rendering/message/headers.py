"""Header fields as octets: encoded words, folding, addresses (RFC 5322, RFC 2047, RFC 6532)."""

from __future__ import annotations

import base64
import re
from typing import Final
from urllib.parse import quote

from mailer.address import check_header_text, parse_address
from mailer.errors import AddressError

# RFC 5322 section 2.1.1 recommends 78; an encoded word may have 75 and its line 76 (RFC 2047 section 2).
_COLUMNS: Final = 76
_WORD: Final = 75
_WRAPPER: Final = len("=?utf-8?q??=")
_PHRASE: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/^_`{|}~-]+)*")
_PRINTABLE: Final = re.compile(r"[ -~]*")
# Characters that need no encoding in a Q-encoded word, even in a phrase (RFC 2047 section 5, rule 3).
_Q_NUMBERS: Final = {
    octet: "_" if octet == 0x20 else f"={octet:02X}"
    for octet in range(256)
    if octet not in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/"
}
_UNSAFE_IN_TEXT: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]+")
_DOT_ATOM_ADDRESS: Final = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@[a-z0-9-]+(?:\.[a-z0-9-]+)*"
)
# "Ana @ Example" is a name; "ana@example" pretends to be an address.
_ADDRESS_LIKE: Final = re.compile(r"\S@\S")
# A longer name is not a real one, and would only fill the header.
_MAX_NAME: Final = 200


def unstructured(field: str, text: str) -> bytes:
    """Return the line `field: text`, folded, with encoded words if it is not ASCII.

    Control characters, line ends and direction controls become one space: a value that comes from the
    database cannot begin a new field. Text that looks like an encoded word is encoded, so that it
    is decoded to what was written.
    """
    text = " ".join(_UNSAFE_IN_TEXT.sub(" ", text).split())
    if _PRINTABLE.fullmatch(text) and "=?" not in text:
        if len(field) + 2 + len(text) <= _COLUMNS:
            return f"{field}: {text}\r\n".encode("ascii")
        if max(map(len, text.split(" "))) < _COLUMNS - len(field) - 2:
            return _folded(f"{field}: {text}").encode("ascii")
    return f"{field}: {encoded_words(text, room=_COLUMNS - len(field) - 2)}\r\n".encode("ascii")


def mailbox(field: str, name: str, address: str) -> bytes:
    """Return the line `field: name <address>`, or the address alone if the name is empty or not usable.

    A name is not usable if it has control or direction characters, looks like an encoded word or an address,
    or has more than 200 characters. It must neither be shown nor stop the message. An
    address that is not ASCII is written as raw UTF-8 (RFC 6532).
    """
    octets = address.encode()
    phrase = _phrase(name, room=_COLUMNS - len(field) - 2).encode("ascii")
    if not phrase:
        return b"%b: %b\r\n" % (field.encode("ascii"), octets)
    column = len(phrase) - phrase.rfind(b"\n") + (len(field) + 2 if b"\n" not in phrase else 0)
    gap = b" " if column + len(octets) + 3 <= _COLUMNS + 2 else b"\r\n "
    return b"%b: %b%b<%b>\r\n" % (field.encode("ascii"), phrase, gap, octets)


def recipient_address(text: str) -> str:
    """Return an address that is safe in a header and an envelope, or raise `AddressError`.

    Stored addresses were parsed before; only unusual ones are parsed again.
    """
    return text if _DOT_ATOM_ADDRESS.fullmatch(text) else str(parse_address(text))


def mailto(address: str) -> str:
    """Return the `mailto:` URL of an address (RFC 6068 section 2), in ASCII."""
    return f"mailto:{quote(address, safe='@+!$*=')}"


def encoded_words(text: str, *, room: int) -> str:
    """Return `text` as encoded words (RFC 2047) of whole characters, one on each line.

    `room` is the width left on the first line. The shorter of the Q and B encodings is used.
    """
    encoding = _q if len(_q(raw := text.encode("utf-8", "replace"))) <= len(_b(raw)) else _b
    opening = "=?utf-8?q?" if encoding is _q else "=?utf-8?b?"
    space = min(room, _WORD) - _WRAPPER
    words: list[str] = []
    while len(payload := encoding(text.encode("utf-8", "replace"))) > space:
        low, high = 1, space
        while low < high:
            middle = (low + high + 1) // 2
            fits = len(encoding(text[:middle].encode("utf-8", "replace"))) <= space
            low, high = (middle, high) if fits else (low, middle - 1)
        words.append(f"{opening}{encoding(text[:low].encode('utf-8', 'replace'))}?=")
        text, space = text[low:], _WORD - _WRAPPER
    words.append(f"{opening}{payload}?=")
    return "\r\n ".join(words)


def _b(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _q(raw: bytes) -> str:
    return raw.decode("latin-1").translate(_Q_NUMBERS)


def _phrase(name: str, *, room: int) -> str:
    if not name or len(name) > _MAX_NAME:
        return ""
    if _PHRASE.fullmatch(name) and len(name) <= room and "=?" not in name:
        return name
    try:
        name = " ".join(check_header_text(name, field="name").split())
    except AddressError:
        return ""
    if not name or _ADDRESS_LIKE.search(name):
        return ""
    quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if _PRINTABLE.fullmatch(name) and len(quoted) <= room:
        return quoted
    return encoded_words(name, room=room)


def _folded(line: str) -> str:
    """Fold a line with single spaces before words that would exceed the column limit."""
    out, column = "", 0
    for word in line.split(" "):
        if out and column + 1 + len(word) > _COLUMNS:
            out, column = out + "\r\n", 0
        separator = " " if out else ""
        out += separator + word
        column += len(separator) + len(word)
    return out + "\r\n"
