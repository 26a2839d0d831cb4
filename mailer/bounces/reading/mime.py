"""Parse a message into headers and leaf parts, within fixed limits and without ever raising.

The standard library's parser recurses on nested multiparts and on comments in addresses. This one reads the
first megabyte, ten levels and 200 parts.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import html
import quopri
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.errors import HeaderParseError
from email.header import decode_header
from functools import lru_cache
from typing import Final

MAX_OCTETS: Final = 1 << 20
MAX_DEPTH: Final = 10
MAX_PARTS: Final = 200
MAX_HEADER_OCTETS: Final = 64 << 10
MAX_HEADERS: Final = 400
MAX_VALUE: Final = 4096
MAX_TEXT: Final = 128 << 10

# Broken gateways produce line endings such as CR CR LF.
_DOUBLED_RETURNS: Final = 3
_FOLD: Final = re.compile(r"\n[ \t]+")
_BOUNDARY: Final = re.compile(r"""boundary\s*=\s*(?:"([^"]{1,200})"|([^\s;"]{1,200}))""", re.IGNORECASE)
_CHARSET: Final = re.compile(r"""charset\s*=\s*["']?([\w.:-]{1,40})""", re.IGNORECASE)
_CHARSETS: Final = (
    "utf-8", "utf-16", "utf-32", "iso8859", "iso2022", "cp", "koi8", "mac", "big5", "euc", "gb", "hz",
    "shift", "johab", "tis", "kz1048", "ptcp154",
)  # fmt: skip
_TAG_BREAK: Final = re.compile(
    r"<(?:br|p|div|tr|li|h\d|/p|/div|/tr|/li|/h\d|/td|hr|pre|/pre)\b[^<>]{0,2000}>", re.I
)
_TAG: Final = re.compile(r"<[/!a-zA-Z][^<>@]{0,4000}>")


@dataclass(frozen=True, slots=True)
class Headers:
    """Header fields in order, names in lower case, values unfolded."""

    fields: tuple[tuple[str, str], ...]
    _first: dict[str, str] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_first", dict(reversed(self.fields)))

    def __contains__(self, name: object) -> bool:
        return name in self._first

    def get(self, name: str) -> str:
        """Return the first value of `name` (lower case), or an empty string."""
        return self._first.get(name, "")

    def all(self, *names: str) -> list[str]:
        """Return the values of all fields with one of these names, in order."""
        return [value for name, value in self.fields if name in names]


@dataclass(frozen=True, slots=True)
class Leaf:
    """A part without subparts. `body` is still encoded; `text()` decodes it."""

    kind: str
    """Media type in lower case; empty when the part has none."""
    headers: Headers
    body: bytes

    def octets(self) -> bytes:
        """Return the body without its transfer encoding."""
        return _transfer_decoded(self.body, self.headers.get("content-transfer-encoding"))

    def text(self) -> str:
        """Return the body as text without HTML markup, at most 131,072 characters."""
        octets = _transfer_decoded(self.body[: 2 * MAX_TEXT], self.headers.get("content-transfer-encoding"))
        text = _decoded(octets, self.headers.get("content-type"))[:MAX_TEXT]
        if self.kind == "text/html":
            text = plain_from_html(text)
        return text.replace("\r\n", "\n").replace("\r", "\n")


def read_mail(raw: bytes) -> tuple[Headers, list[Leaf]]:
    """Return a message's headers and its leaf parts; content beyond the limits is omitted."""
    octets = with_plain_line_ends(raw[:MAX_OCTETS])
    if octets.startswith((b"From ", b">From ")):
        octets = octets[octets.find(b"\n") + 1 :]
    octets = octets.lstrip(b"\n")
    head, body = _split(octets)
    headers = parse_headers(head)
    return headers, list(_leaves(headers, body))


def with_plain_line_ends(octets: bytes) -> bytes:
    """Return a message with all line endings converted to LF."""
    if b"\r" not in octets:
        return octets
    for _ in range(_DOUBLED_RETURNS):
        if b"\r\r\n" not in octets:
            break
        octets = octets.replace(b"\r\r\n", b"\r\n")
    return octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def parse_headers(head: bytes) -> Headers:
    """Return the fields of a header block, without malformed lines."""
    text = head[:MAX_HEADER_OCTETS].decode("utf-8", "replace")
    if "\n " in text or "\n\t" in text:
        text = _FOLD.sub(" ", text)
    fields: list[tuple[str, str]] = []
    for line in text.split("\n", MAX_HEADERS)[:MAX_HEADERS]:
        name, colon, value = line[:MAX_VALUE].partition(":")
        if colon and (name := _field_name(name)):
            fields.append((name, value.strip()))
        elif fields and fields[-1][1].endswith(";"):
            # Some systems fold a parameter without the blank that folding needs.
            name, value = fields[-1]
            fields[-1] = name, f"{value} {line.strip()}"[:MAX_VALUE]
    return Headers(tuple(fields))


@lru_cache(maxsize=1024)
def _field_name(text: str) -> str:
    """Return the name of a field in lower case, or nothing if it is not one (RFC 5322 section 2.2).

    Names have at most 100 characters. Cached, since few of them differ.
    """
    name = text.rstrip(" \t")
    valid = len(name) <= 100 and name.isascii() and name.isprintable() and " " not in name
    return name.lower() if valid else ""


def decoded_words(value: str) -> str:
    """Return a header value with encoded words (RFC 2047) decoded, or unchanged if they are invalid."""
    if "=?" not in value:
        return value
    try:
        parts = decode_header(value[:2000])
    except (HeaderParseError, ValueError, binascii.Error):
        return value
    return "".join(
        part if isinstance(part, str) else _decoded(part, f"charset={charset or 'utf-8'}")
        for part, charset in parts
    )


def plain_from_html(text: str) -> str:
    """Return the visible text of HTML: one line for each block, entities decoded."""
    text = _without_hidden(text)
    text = _TAG_BREAK.sub("\n", " ".join(line.strip() for line in text.split("\n")))
    return html.unescape(_TAG.sub("", text)).replace("\u00a0", " ")


def _without_hidden(text: str) -> str:
    """Return HTML without style, script and head elements, in linear time."""
    for name in ("style", "script", "head"):
        folded = text.lower()
        kept: list[str] = []
        at = 0
        while (start := folded.find(f"<{name}", at)) >= 0:
            end = folded.find(f"</{name}", start)
            if end < 0:
                break
            kept.append(text[at:start])
            at = end + len(name) + 3
        text = "".join([*kept, text[at:]])
    return text


def _leaves(headers: Headers, body: bytes) -> Iterator[Leaf]:
    """Yield the leaf parts, without recursion."""
    waiting = [(headers, body, 0)]
    seen = 0
    while waiting and seen < MAX_PARTS:
        headers, body, depth = waiting.pop()
        seen += 1
        content_type = headers.get("content-type")
        kind = content_type.partition(";")[0].strip().lower()
        found = _BOUNDARY.search(content_type) if kind.startswith("multipart") else None
        if found is None or depth >= MAX_DEPTH:
            yield Leaf(kind, headers, body)
            continue
        parts = _parts(body, (found[1] or found[2]).strip())
        if not parts:
            yield Leaf("", headers, body)
            continue
        for part in reversed(parts):
            head, rest = _split(part)
            inner = parse_headers(head)
            if not inner.fields and head.strip():
                inner, rest = Headers(()), part
            waiting.append((inner, rest, depth + 1))


def _parts(body: bytes, boundary: str) -> list[bytes]:
    """Return the parts between the boundary lines (RFC 2046 section 5.1.1)."""
    delimiter = b"\n--" + boundary.encode("utf-8", "replace")
    pieces = (b"\n" + body).split(delimiter, MAX_PARTS)
    parts: list[bytes] = []
    for piece in pieces[1:]:
        line, _, rest = piece.partition(b"\n")
        if line.startswith(b"--"):
            break
        if line.strip():  # Another boundary that begins with this one.
            if parts:
                parts[-1] += delimiter + piece
            continue
        parts.append(rest)
    return parts


def _split(octets: bytes) -> tuple[bytes, bytes]:
    """Return the header block and the body, which follows the first empty line."""
    if octets.startswith(b"\n"):
        return b"", octets[1:]
    head, _, body = octets.partition(b"\n\n")
    return head, body


def _transfer_decoded(body: bytes, encoding: str) -> bytes:
    encoding = encoding.strip().lower()
    if encoding == "quoted-printable":
        return quopri.decodestring(body)
    if encoding == "base64":
        usable = re.sub(rb"[^A-Za-z0-9+/]", b"", body)
        # A single character at the end holds no octet; two or three lack only the padding.
        whole = usable[:-1] if len(usable) % 4 == 1 else usable
        try:
            return base64.b64decode(whole + b"=" * (-len(whole) % 4))
        except binascii.Error:
            return body
    return body


def _decoded(octets: bytes, content_type: str) -> str:
    """Decode text with the declared charset, or else as UTF-8, or else as ISO 8859-1."""
    found = _CHARSET.search(content_type)
    declared = found[1].lower() if found else "utf-8"
    if b"\x1b$" in octets:
        declared = "iso-2022-jp"
    if not _is_plain_charset(declared):
        declared = "utf-8"
    for charset in (declared, "utf-8"):
        try:
            return octets.decode(charset, "replace" if charset.startswith("iso-2022") else "strict")
        except (LookupError, UnicodeError, ValueError):
            continue
    return octets.decode("iso-8859-1")


@lru_cache(maxsize=256)
def _is_plain_charset(name: str) -> bool:
    """Return whether a codec maps characters one by one.

    Python also decodes punycode, whose time is quadratic, and escapes that no email declares.
    """
    try:
        return codecs.lookup(name).name.startswith(_CHARSETS)
    except LookupError:
        return False
