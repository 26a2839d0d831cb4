"""Read the fields of delivery status notifications (RFC 3464, RFC 6533) for each recipient."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

MAX_RECIPIENTS: Final = 1000

ADDRESS: Final = re.compile(
    r"""(?:"[^"\s@]{1,64}"|[\w.!#$%&'*+/=?^`{|}~-]{1,128})"""
    r"""@(?:[\w-]{1,63}(?:\.[\w-]{1,63}){0,10}|\[[\d.]{7,15}\])"""
)
_LINE: Final = re.compile(r"^[ \t]?([A-Za-z][A-Za-z-]{2,40})[ \t]*:[ \t]*(.*)$")
_STATUS: Final = re.compile(r"([245](?<![\d.][245])\.\d{1,3}\.\d{1,3})(?![\d.]*\d)")
_RECIPIENT_FIELDS: Final = ("final-recipient", "original-recipient", "x-actual-recipient")
_RECIPIENT_FIELD: Final = re.compile(r"^[ \t]?(?:final|original)-recipient[ \t]*:", re.I | re.M)
_GROUP_FIELDS: Final = frozenset(
    {
        *_RECIPIENT_FIELDS,
        "action",
        "status",
        "diagnostic-code",
        "remote-mta",
        "last-attempt-date",
        "will-retry-until",
    }
)


@dataclass(slots=True)
class Facts:
    """The facts that a report states about a recipient, before a verdict."""

    address: str = ""
    original: str = ""
    action: str = ""
    status: str = ""
    diagnostic: str = ""
    remote: str = ""
    command: str = ""
    more: list[str] = field(default_factory=list)
    """Further texts about this recipient, the nearest first."""


def has_fields(text: str) -> bool:
    """Return whether a text contains delivery-status fields."""
    return "-recipient" in text.lower() and _RECIPIENT_FIELD.search(text) is not None


def read_fields(text: str) -> tuple[list[Facts], str]:
    """Return the facts for each recipient group and the reporting MTA.

    The order of fields, blank lines within groups, folding and letter case do not matter. A field that the
    group already has starts a new group.
    """
    groups: list[dict[str, str]] = []
    message: dict[str, str] = {}
    current: dict[str, str] = {}
    last: tuple[dict[str, str], str] | None = None
    for line in text.split("\n"):
        found = _LINE.match(line)
        if found is None:
            if last is not None and line[:1] in (" ", "\t") and line.strip():
                fields, name = last
                fields[name] = f"{fields[name]} {line.strip()}"[:4096]
            elif not line.strip():
                last = None
                if _is_whole(current):
                    groups.append(current)
                    current = {}
            continue
        name, value = found[1].lower(), found[2].strip()
        if name in _GROUP_FIELDS:
            if name in current:
                groups.append(current)
                current = {}
            current[name] = value
            last = (current, name)
        else:
            message.setdefault(name, value)
            last = (message, name)
        if len(groups) >= MAX_RECIPIENTS:
            break
    groups.append(current)
    return [_facts(group) for group in groups if group], _after_type(message.get("reporting-mta", ""))


def status_in(text: str) -> str:
    """Return the first RFC 3463 status in `text`, or an empty string."""
    found = _STATUS.search(text)
    return found[1] if found else ""


def first_address(text: str) -> str:
    """Return the first mail address in `text` without quotes around it, or an empty string."""
    found = ADDRESS.search(text[:2000])
    return clean_address(found[0]) if found else ""


def clean_address(text: str) -> str:
    """Return an address without what commonly sticks to its ends."""
    text = text.strip("'`*|").rstrip(".-_=")
    return text if text.startswith("=?") else text.lstrip("=")


def _is_whole(group: dict[str, str]) -> bool:
    return any(name in group for name in _RECIPIENT_FIELDS) and ("action" in group or "status" in group)


def _after_type(value: str) -> str:
    """Return the value after `dns;` or `rfc822;`, or the whole value if it has no type."""
    kind, separator, rest = value.partition(";")
    return rest.strip() if separator and " " not in kind.strip() else value.strip()


def _facts(group: dict[str, str]) -> Facts:
    final = _mailbox(group.get("final-recipient", ""))
    original = _mailbox(group.get("original-recipient", ""))
    diagnostic = group.get("diagnostic-code", "")
    return Facts(
        address=final or original or _mailbox(group.get("x-actual-recipient", "")),
        original=original,
        action=group.get("action", "").strip().split(" ")[0].split(";")[0].lower(),
        status=status_in(group.get("status", "")),
        diagnostic=re.sub(r"^\s*(?!x-unix)[\w-]{1,40}\s*;\s*", "", diagnostic, flags=re.IGNORECASE),
        remote=_after_type(group.get("remote-mta", "")),
        more=[text] if (text := _words_of(group.get("status", ""))) else [],
    )


def _words_of(status: str) -> str:
    """Return the comment that some systems add to the status: `5.4.4 (Illegal host/domain name found)`."""
    found = re.search(r"\(([^()]{4,200})\)", status)
    return found[1] if found else ""


def _mailbox(value: str) -> str:
    """Return the mailbox of a recipient field, or nothing if it is a path, a program or a route."""
    value = _after_type(value).strip().strip("<>").strip()
    if value.startswith(("/", "|", "@", '"|')):
        return ""
    found = ADDRESS.search(value[:1000])
    return clean_address(found[0]) if found else ""
