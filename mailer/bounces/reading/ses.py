"""Amazon SES notifications that SNS sends by mail: one JSON document in the text.

Their form is that of the webhooks; only what a report needs is read.
"""

from __future__ import annotations

import json
from typing import Any, Final

from mailer.bounces.reading.dsn import MAX_RECIPIENTS, Facts, status_in

_START: Final = '{"notificationType"'
_QUOTED_START: Final = '{\\"notificationType\\"'
_ACTIONS: Final = {"bounce": "failed", "delivery": "delivered", "complaint": "complaint"}


def read(notice: str) -> tuple[str, list[Facts], str] | None:
    """Return the action, the facts and the Message-ID of the mail, or None where no notification stands."""
    if _QUOTED_START in notice:
        # The raw delivery of SNS: the document is a string within another, its lines folded.
        notice = notice[notice.find(_QUOTED_START) :].replace("\n ", "").replace("\n", "")
        notice = notice.replace('\\"', '"').replace("\\\\", "\\")
    start = notice.find(_START)
    if start < 0:
        return None
    document = _document(notice[start:])
    action = _ACTIONS.get(str(document.get("notificationType", "")).lower())
    if action is None:
        return None
    part = _mapping(
        document.get(action if action == "complaint" else "bounce" if action == "failed" else "delivery")
    )
    status = "5.0.0" if part.get("bounceType") == "Permanent" else "4.0.0" if action == "failed" else ""
    facts = []
    for entry in _entries(part):
        address = str(entry.get("emailAddress", ""))
        if "@" in address:
            diagnostic = str(entry.get("diagnosticCode", "") or part.get("smtpResponse", "") or "")
            said = status_in(str(entry.get("status", ""))) or status
            facts.append(
                Facts(
                    address=address,
                    action="" if action == "complaint" else action,
                    status=said,
                    diagnostic=diagnostic.removeprefix("smtp;").strip(),
                    more=[str(part.get("bounceSubType", ""))],
                )
            )
    return action, facts, str(_mapping(document.get("mail")).get("messageId", ""))


def _document(text: str) -> dict[str, Any]:
    """Return the document; lines that a mail system broke are joined first."""
    for candidate in (text, text.replace("\n", "")):
        try:
            document, _ = json.JSONDecoder(strict=False).raw_decode(candidate)
        except (ValueError, RecursionError):
            continue
        return _mapping(document)
    return {}


def _entries(part: dict[str, Any]) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    for name in ("bouncedRecipients", "complainedRecipients", "recipients"):
        listed = part.get(name)
        if isinstance(listed, list):
            entries += [entry if isinstance(entry, dict) else {"emailAddress": entry} for entry in listed]
    return entries[:MAX_RECIPIENTS]


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
