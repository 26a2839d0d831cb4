"""The one judge: an SMTP reply, or the status and text of a DSN, becomes a `Verdict`."""

from mailer.replies.judge import judge
from mailer.replies.verdict import (
    POLICY,
    Alert,
    Basis,
    BounceClass,
    BouncePolicy,
    Fault,
    ReplyClass,
    Verdict,
)

__all__ = [
    "POLICY",
    "Alert",
    "Basis",
    "BounceClass",
    "BouncePolicy",
    "Fault",
    "ReplyClass",
    "Verdict",
    "judge",
]
