"""Findings: one line each of what `mailer doctor` reports."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    """Some receivers may mind, or a mistake is likely."""
    PROBLEM = "problem"
    """Mail is refused, lost, or treated as spam because of it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    check: str
    """`spf`, `dkim`, `dmarc`, … ; stable, for programs."""
    level: Level
    subject: str
    """The domain, host or file that was checked."""
    message: str
    remedy: str = ""
    record: str = ""
    """A DNS record to publish, as a line of a zone file; empty if none is needed."""


def ok(check: str, subject: str, message: str, *, remedy: str = "", record: str = "") -> Finding:
    """Return a good finding; a remedy and a record are suggestions."""
    return Finding(check, Level.OK, subject, message, remedy, record)


def warning(check: str, subject: str, message: str, *, remedy: str = "", record: str = "") -> Finding:
    """Return a warning."""
    return Finding(check, Level.WARNING, subject, message, remedy, record)


def problem(check: str, subject: str, message: str, *, remedy: str, record: str = "") -> Finding:
    """Return a problem."""
    return Finding(check, Level.PROBLEM, subject, message, remedy, record)


def txt_record(name: str, text: str) -> str:
    """Return a TXT record as a line of a zone file, in strings of at most 255 octets (RFC 1035 §3.3.14)."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    strings = " ".join(f'"{escaped[start : start + 255]}"' for start in range(0, len(escaped), 255))
    return f"{name}. IN TXT {strings}"
