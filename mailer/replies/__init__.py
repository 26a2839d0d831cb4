"""The one judge: an SMTP reply, or the status and text of a DSN, becomes a `Verdict`."""

from mailer.replies.fingerprint import fingerprint, fingerprint_of
from mailer.replies.judge import judge, prepare
from mailer.replies.verdict import (
    FAULT,
    POLICY,
    Alert,
    BounceClass,
    BouncePolicy,
    Fault,
    Refusal,
    ReplyClass,
    Verdict,
    VerdictBasis,
)

__all__ = [
    "FAULT",
    "POLICY",
    "Alert",
    "BounceClass",
    "BouncePolicy",
    "Fault",
    "Refusal",
    "ReplyClass",
    "Verdict",
    "VerdictBasis",
    "fingerprint",
    "fingerprint_of",
    "judge",
    "prepare",
]
