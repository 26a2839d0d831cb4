"""Read feedback reports (RFC 5965) and the forms that some providers send instead."""

from __future__ import annotations

from typing import Final

from mailer.bounces.reading.dsn import ADDRESS, clean_address, first_address
from mailer.bounces.reading.mime import Headers, Leaf, parse_headers

_KIND: Final = {
    "abuse": "complaint",
    "fraud": "complaint",
    "opt-out": "opt_out",
    "opt-out-list": "opt_out",
}
"""Other types, such as `auth-failure` and `not-spam`, are not complaints."""
_PARTIES: Final = ("original-rcpt-to", "removal-recipient", "original-recipient")


def read(headers: Headers, leaves: list[Leaf], original: Headers) -> tuple[str, str, list[str]] | None:
    """Return the kind, the feedback type and the recipients, or None if this is not a feedback report."""
    for leaf in leaves:
        if leaf.kind == "message/feedback-report":
            fields = parse_headers(leaf.text().lstrip("\n").encode("utf-8", "replace"))
            feedback_type = fields.get("feedback-type").lower().split(";")[0].strip()
            if not feedback_type and fields.get("abuse-type").lower() == "complaint":
                feedback_type = "abuse"
            return _KIND.get(feedback_type, "arf_other"), feedback_type, _concerned(fields, original)
    if original.get("x-hmxmroriginalrecipient"):
        return "complaint", "abuse", [first_address(original.get("x-hmxmroriginalrecipient"))]
    if headers.get("x-apple-unsubscribe").lower() == "true":
        return "opt_out", "opt-out", [address] if (address := first_address(headers.get("from"))) else []
    return None


def _concerned(fields: Headers, original: Headers) -> list[str]:
    """Return the recipients named in the report, or else those of the original message."""
    for values in (fields.all(*_PARTIES), original.all("to"), original.all("x-original-to", "delivered-to")):
        found = [clean_address(address) for value in values[:50] for address in ADDRESS.findall(value[:2000])]
        if found:
            return list(dict.fromkeys(found))[:50]
    return []
