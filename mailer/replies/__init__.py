"""The one judge: an SMTP reply, or the status and text of a DSN, becomes a `Verdict`."""

from mailer.replies.fingerprint import fingerprint, fingerprint_of
from mailer.replies.judge import judge
from mailer.replies.verdict import (
    FAULT,
    POLICY,
    Alert,
    Basis,
    BounceClass,
    BouncePolicy,
    Fault,
    Refusal,
    ReplyClass,
    Verdict,
)

__all__ = [
    "FAULT",
    "POLICY",
    "Alert",
    "Basis",
    "BounceClass",
    "BouncePolicy",
    "Fault",
    "Refusal",
    "ReplyClass",
    "Verdict",
    "fingerprint",
    "fingerprint_of",
    "judge",
]
