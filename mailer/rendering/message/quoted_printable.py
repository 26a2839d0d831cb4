"""Quoted-printable (RFC 2045 section 6.7) in pieces that can be concatenated.

Every piece ends its last line, with a soft break where the text does not. So each begins in column 0
whatever precedes it, and the unchanging pieces of an issue are encoded once for all subscribers.
No line begins with `.` or `From `: such a character is written as its code, so a body needs no
dot-stuffing (RFC 5321 section 4.5.2) and no mbox writer puts `>` before it.
"""

from __future__ import annotations

import re
from typing import Final

# 75 and the `=` of a soft break make the 76 columns of RFC 2045 section 6.7 rule 5.
_COLUMNS: Final = 75
_LINE_END: Final = re.compile(r"\r\n?")
_UNSAFE: Final = re.compile(rb"[^\t -<>-~]")
# Short ASCII that is its own encoding: no `=`, no tab or line end, no leading `.` or `F`.
_PLAIN: Final = re.compile(r"[ -\-/-<>-EG-~][ -<>-~]{0,74}")


def encode(text: str) -> bytes:
    """Return `text` in quoted-printable UTF-8, as whole lines that end in CRLF.

    CR, LF and CRLF all end a line. Lone surrogates become `?`, because UTF-8 cannot encode them.
    """
    if _PLAIN.fullmatch(text):
        return text.encode("ascii") + b"=\r\n"
    lines = _LINE_END.sub("\n", text).encode("utf-8", "replace").split(b"\n")
    last = lines.pop()
    out: list[bytes] = []
    for line in lines:
        _encode_line(line, out, ends=True)
    if last:
        _encode_line(last, out, ends=False)
    return b"".join(out)


def _encode_line(line: bytes, out: list[bytes], *, ends: bool) -> None:
    """Add one line of text to `out`; `ends` says whether a line end follows it in the text."""
    escaped = _UNSAFE.sub(_number, line)
    if ends and escaped[-1:] in (b" ", b"\t"):
        escaped = escaped[:-1] + b"=%02X" % escaped[-1]
    at = 0
    while True:
        first = b""
        if escaped.startswith((b".", b"From "), at):
            first = b"=%02X" % escaped[at]
            at += 1
        end = at + _COLUMNS - len(first)
        if end >= len(escaped):
            out.append(first + escaped[at:] + (b"\r\n" if ends else b"=\r\n"))
            return
        if (number := escaped.rfind(b"=", end - 2, end)) >= 0:
            end = number
        out.append(first + escaped[at:end] + b"=\r\n")
        at = end


def _number(found: re.Match[bytes]) -> bytes:
    return b"=%02X" % found[0][0]
