"""DMARC and TLS reports: the real forms are read, anything else is not one, in bounded time."""

from __future__ import annotations

import gzip
import io
import json
import time
import zipfile
from collections.abc import Callable
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.bounces.reading.authentication import MAX_ROWS, AuthenticationReport, Row
from mailer.bounces.reading.report import ReportKind, parse_report

RECORD = """\
  <record>
    <row><source_ip>{source}</source_ip><count>{count}</count>
      <policy_evaluated><disposition>{result}</disposition><dkim>{dkim}</dkim><spf>{spf}</spf>
        <reason><type>forwarded</type></reason></policy_evaluated>
    </row>
    <identifiers><envelope_from>b.example.org</envelope_from><header_from>Example.org</header_from></identifiers>
    <auth_results><dkim><domain>example.org</domain><result>pass</result></dkim>
      <spf><domain>b.example.org</domain><result>pass</result></spf></auth_results>
  </record>
"""
HEAD = """\
<?xml version="1.0" encoding="UTF-8" ?>
{doctype}<feedback{namespace}>
  <report_metadata><org_name>google.com</org_name><email>noreply-dmarc@google.com</email>
    <report_id>123</report_id><date_range><begin>1772323200</begin><end>1772409599</end></date_range>
  </report_metadata>
  <policy_published><domain>example.org</domain><adkim>r</adkim><p>reject</p><pct>100</pct></policy_published>
"""


def xml(records: str = "", *, namespace: str = "", doctype: str = "") -> bytes:
    return f"{HEAD.format(namespace=namespace, doctype=doctype)}{records}</feedback>\n".encode()


def record(source: str, count: object, dkim: str = "pass", spf: str = "pass", result: str = "none") -> str:
    return RECORD.format(source=source, count=count, dkim=dkim, spf=spf, result=result)


TWO = record("192.0.2.1", 30) + record("192.0.2.1", 12) + record("2001:db8::5", 7, "fail", "fail", "reject")
ROWS = (
    Row("192.0.2.1", 42, "none", True, True, "example.org"),
    Row("2001:db8::5", 7, "reject", False, False, "example.org"),
)
TLS = {
    "organization-name": "Company-X",
    "date-range": {"start-datetime": "2026-03-01T00:00:00Z", "end-datetime": "2026-03-01T23:59:59Z"},
    "report-id": "5065427c@company-x.example",
    "policies": [
        {
            "policy": {
                "policy-type": "sts",
                "policy-string": ["version: STSv1"],
                "policy-domain": "example.org",
            },
            "summary": {"total-successful-session-count": 5326, "total-failure-session-count": 3},
            "failure-details": [
                {
                    "result-type": "certificate-expired",
                    "receiving-mx-hostname": "MX1.example.org",
                    "failed-session-count": 3,
                }
            ],
        }
    ],
}


def zipped(content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("google.com!example.org!1!2.xml", content)
    return packed.getvalue()


def mail(content: bytes, kind: str, name: str) -> bytes:
    message = EmailMessage()
    message["From"] = "noreply-dmarc@google.com"
    message["Subject"] = "Report domain: example.org Submitter: google.com Report-ID: 123"
    message.set_content("This is an aggregate report.")
    main, _, sub = kind.partition("/")
    message.add_attachment(content, maintype=main, subtype=sub, filename=name)
    return bytes(message)


def read(
    content: bytes, kind: str = "application/gzip", name: str = "report.xml.gz"
) -> AuthenticationReport | None:
    return parse_report(mail(content, kind, name)).authentication


@pytest.mark.parametrize(
    ("content", "kind", "name"),
    [
        (gzip.compress(xml(TWO)), "application/gzip", "a.xml.gz"),
        (gzip.compress(xml(TWO)), "application/octet-stream", "a.xml.gz"),
        (zipped(xml(TWO)), "application/zip", "a.zip"),
        (zipped(xml(TWO)), "application/x-zip-compressed", "a.zip"),
        (b"\xef\xbb\xbf" + xml(TWO), "text/xml", "a.xml"),
        (
            gzip.compress(xml(TWO, namespace=' xmlns="urn:ietf:params:xml:ns:dmarc-2.0"')),
            "application/gzip",
            "a",
        ),
    ],
)
def test_dmarc_report_is_read_in_every_packing(content: bytes, kind: str, name: str) -> None:
    report = parse_report(mail(content, kind, name))
    expected = AuthenticationReport(
        "dmarc", "google.com", "123", "example.org", 1772323200, 1772409599, "reject", ROWS
    )
    assert report.authentication == expected
    assert (report.kind, report.reporter) == (ReportKind.DMARC, "noreply-dmarc@google.com")


def test_tls_report_is_read() -> None:
    found = read(gzip.compress(json.dumps(TLS).encode()), "application/tlsrpt+gzip", "a.json.gz")
    rows = (Row("example.org", 5326, "success"), Row("mx1.example.org", 3, "certificate-expired"))
    assert found == AuthenticationReport(
        "tls", "Company-X", "5065427c@company-x.example", "example.org", 1772323200, 1772409599, "sts", rows
    )


@pytest.mark.parametrize("count", ["-5", "1e9", "", "٣", "9" * 30, "7 messages"])
def test_count_that_is_no_number_counts_nothing(count: str) -> None:
    found = read(gzip.compress(xml(record("192.0.2.1", count) + record("192.0.2.2", 1))))
    assert found is not None
    assert [row.source for row in found.rows] == ["192.0.2.2"]


LAUGHS = '<!DOCTYPE feedback [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {new} "{f"&{old};" * 20}">' for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
FILE = '<!DOCTYPE feedback [<!ENTITY i SYSTEM "file:///etc/passwd">'
HOSTILE: dict[str, Callable[[], bytes]] = {
    "bomb": lambda: gzip.compress(b"<feedback>" + bytes(100_000_000), 1),
    "zip bomb": lambda: zipped(bytes(50_000_000)),
    "laughs": lambda: gzip.compress(xml(record("&i;", 1), doctype=LAUGHS + "]>")),
    "file": lambda: gzip.compress(xml(record("&i;", 1), doctype=FILE + "]>")),
    "deep": lambda: gzip.compress(b"<feedback>" + b"<a>" * 500_000),
    "deep json": lambda: gzip.compress(b"{" + b'"a":[' * 500_000),
    "wide": lambda: gzip.compress(xml("<record><row></row></record>" * 40_000)),
    "rows": lambda: gzip.compress(xml("".join(record(f"10.0.{n >> 8}.{n & 255}", 1) for n in range(3_000)))),
    "attributes": lambda: gzip.compress(
        b"<feedback " + b" ".join(b'a%d=""' % n for n in range(200_000)) + b"/>"
    ),
    "cut": lambda: gzip.compress(xml(TWO))[:-200],
    "empty zip": lambda: b"PK\x03\x04",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_report_costs_little(name: str) -> None:
    message = mail(HOSTILE[name](), "application/gzip", "a.gz")
    began = time.process_time()
    found = parse_report(message).authentication
    took = time.process_time() - began
    assert took < 3
    assert found is None or len(found.rows) <= MAX_ROWS
    assert "root:" not in repr(found)
    assert "hahaha" not in repr(found)


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x1f\x8b", b"PK\x03\x04", b"<feedback>", b"{"]))
def test_any_octets_are_read_without_an_error(octets: bytes, start: bytes) -> None:
    assert read(start + octets) is None


@pytest.mark.parametrize(
    "name", [":feedback", "feedback:", "x:feedback", "a:b:feedback", ":", "_", "féedback"]
)
def test_any_names_of_elements_are_read(name: str) -> None:
    for old in ("feedback", "record", "count"):
        renamed = xml(TWO).replace(f"<{old}>".encode(), f"<{name}>".encode())
        found = read(renamed.replace(f"</{old}>".encode(), f"</{name}>".encode()), "application/xml", "a.xml")
        assert found is None or len(found.rows) <= 3


@given(st.data())
def test_damaged_report_is_one_or_none(data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from([xml(TWO), json.dumps(TLS).encode()]))
    at = data.draw(st.integers(0, len(whole)))
    damaged = whole[:at] + data.draw(st.binary(max_size=4)) + whole[at + data.draw(st.integers(0, 4)) :]
    found = read(damaged, "application/xml", "a.xml")
    assert found is None or len(found.rows) <= 3
