"""Messages made to break a parser: each must be read in bounded time and memory."""

from __future__ import annotations

from collections.abc import Callable

HEAD = b"From: MAILER-DAEMON@mx.example.net\r\nSubject: Undelivered Mail Returned to Sender\r\n"
HTML = HEAD + b"Content-Type: text/html\r\n\r\n"
STATUS = (
    HEAD + b"Content-Type: multipart/report; report-type=delivery-status; boundary=q\r\n\r\n"
    b"--q\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example.net\r\n\r\n"
)

BOMBS: dict[str, Callable[[], bytes]] = {
    "3,000 nested multiparts": lambda: b"".join(
        b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (n, n) for n in range(3000)
    ),
    "3,000 nested multiparts with one boundary": lambda: (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" * 3000
    ),
    "3,000 brackets in From": lambda: (
        b"From: " + b"(" * 3000 + b"postmaster@example.net\r\n\r\n<a@b.example>: no"
    ),
    "20,000 recipients": lambda: (
        STATUS
        + b"".join(
            b"Final-Recipient: rfc822; u%d@example.com\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n" % n
            for n in range(20_000)
        )
    ),
    "20,000 recipients in prose": lambda: (
        HEAD + b"\r\n" + b"".join(b"<u%d@example.com>: 550 no such user\r\n\r\n" % n for n in range(20_000))
    ),
    "30,000 parts": lambda: (
        HEAD
        + b"Content-Type: multipart/mixed; boundary=q\r\n\r\n"
        + b"--q\r\n\r\nfailed a@b.example\r\n" * 30_000
    ),
    "huge attachment": lambda: (
        HEAD + b"Content-Type: multipart/mixed; boundary=q\r\n\r\n--q\r\n\r\n<a@b.example>: 550 no\r\n--q\r\n"
        b"Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b"QUJD" * 4_000_000
    ),
    "one line": lambda: HEAD + b"\r\n" + b"a" * 2_000_000,
    "at signs": lambda: HEAD + b"\r\n" + b"a@" * 500_000,
    "tags": lambda: HEAD + b"Content-Type: text/html\r\n\r\n" + b"<style>" * 150_000,
    "open tags": lambda: HEAD + b"Content-Type: text/html\r\n\r\n" + b"<" * 500_000,
    "header fields": lambda: HEAD + b"X: y\r\n" * 200_000 + b"\r\n",
    "folded header": lambda: HEAD + b"X: a\r\n" + b" y\r\n" * 300_000 + b"\r\n",
    "encoded words": lambda: b"Subject: " + b"=?utf-8?q?a?= " * 100_000 + b"\r\n\r\n",
    "transcript": lambda: HEAD + b"\r\n" + b">>> RCPT TO:\r\n<<< 550 x\r\n" * 30_000,
    "nested JSON": lambda: HEAD + b'\r\n{"notificationType"' + b"[" * 500_000,
    "sentences": lambda: HEAD + b"\r\n" + b"message to <x@y.example> failed\r\n" * 30_000,
    "blanks in HTML": lambda: HTML + b" " * 1_000_000,
    "line ends in HTML": lambda: HTML + b"\n" * 131_072,
    "entities in HTML": lambda: HTML + b"&#1" * 300_000,
    "tags that never end": lambda: HTML + b"<p x" * 250_000,
    "commas": lambda: HEAD + b"\r\n" + b"," * 1_000_000,
    "blanks": lambda: HEAD + b"\r\n" + b" " * 1_000_000,
    "carriage returns": lambda: b"\r" * 1_000_000,
    "carriage returns before line ends": lambda: HEAD + b"\r\n" + b"\r\r\n" * 300_000,
    "punycode": lambda: (
        HEAD + b"Content-Type: text/plain; charset=punycode\r\n\r\n" + b"a" * 4000 + b"-" + b"9" * 131_072
    ),
    "escapes": lambda: HEAD + b"Content-Type: text/plain; charset=unicode_escape\r\n\r\n" + b"\\N{" * 99_999,
    "quoted-printable": lambda: (
        HEAD + b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + b"=" * 999_999
    ),
    "local parts": lambda: HEAD + b"\r\n" + (b"a" * 900 + b"@\r\n") * 1000,
    "dotted local parts": lambda: HEAD + b"\r\n" + (b"a." * 450 + b"@\r\n") * 1000,
    "dotted domains": lambda: HEAD + b"\r\n" + (b"a@" + b"b." * 400 + b"\r\n") * 1000,
    "prepositions": lambda: HEAD + b"\r\n" + (b"to " * 300 + b"@x\r\n") * 1100,
    "brackets": lambda: HEAD + b"\r\n" + (b"<" * 800 + b"@\r\n") * 1200,
    "quotation marks": lambda: HEAD + b"\r\n" + (b'"' * 900 + b"@\r\n") * 1100,
    "semicolons in a field": lambda: (
        STATUS + b"Final-Recipient: " + b";" * 400_000 + b"\r\nAction: failed\r\n"
    ),
    "brackets in a status": lambda: STATUS + b"Action: failed\r\nStatus: " + b"(" * 400_000,
    "folded diagnostic": lambda: (
        STATUS + b"Action: failed\r\nDiagnostic-Code: smtp; 550\r\n" + b" x\r\n" * 250_000
    ),
    "boundaries that begin alike": lambda: (
        HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + b"--bx\r\n" * 170_000
    ),
    "reports in reports": lambda: b"".join(
        HEAD
        + b"Content-Type: multipart/report; boundary=q\r\n\r\n--q\r\nContent-Type: message/rfc822\r\n\r\n"
        for _ in range(5000)
    ),
    "codes": lambda: HEAD + b"\r\n" + b"550 5.1." * 130_000,
    "rules before a copy": lambda: HEAD + b"\r\n" + (b"-" * 80 + b" the message\r\n") * 10_000,
    "quoted notifications": lambda: HEAD + b"\r\n" + b'{\\"notificationType\\"' * 50_000,
    "failed recipients": lambda: (
        HEAD + (b"X-Failed-Recipients: " + b"a@b.c," * 600 + b"\r\n") * 280 + b"\r\nx"
    ),
}
