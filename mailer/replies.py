"""The one judge: an SMTP reply, or the status and text of a DSN, becomes a `Verdict`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class BounceClass(StrEnum):
    """What a refusal means."""

    INVALID_MAILBOX = "invalid_mailbox"
    INVALID_DOMAIN = "invalid_domain"
    MOVED = "moved"
    MAILBOX_DISABLED = "mailbox_disabled"
    MAILBOX_FULL = "mailbox_full"
    FILTERED = "filtered"
    EXPIRED = "expired"
    NETWORK = "network"
    TRANSIENT_SYSTEM = "transient_system"
    RATE_LIMITED = "rate_limited"
    REPUTATION_BLOCK = "reputation_block"
    AUTH_FAILURE = "auth_failure"
    POLICY_REJECT = "policy_reject"
    CONTENT = "content"
    MESSAGE_TOO_LARGE = "message_too_large"
    PROTOCOL = "protocol"
    UNDETERMINED = "undetermined"


class ReplyClass(StrEnum):
    """What the sender does about it."""

    ACCEPTED = "accepted"
    HARD = "hard"
    """This address will not work: suppress it."""
    FULL = "full"
    """Over quota: try again daily, for three days at most."""
    RATE = "rate"
    """Too fast: slow this provider, the same message later."""
    GREY = "grey"
    """Greylisted: the same envelope again in 5 to 15 minutes."""
    AUTH = "auth"
    """SPF, DKIM or DMARC: pause the issue; our fault."""
    CONFIG = "config"
    """Our configuration: pause the issue; our fault."""
    REPUTATION = "reputation"
    """Our IP or domain is blocked: pause the provider."""
    SPAM = "spam"
    """This message was taken for spam: fail it, count it."""
    TEMPORARY = "temporary"
    """Any other 4yz: try again."""
    PERMANENT = "permanent"
    """Any other 5yz: fail this delivery, leave the subscriber."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reply means and what follows from it."""

    reply_class: ReplyClass
    bounce_class: BounceClass | None
    """None when accepted."""
    hard: bool
    """Whether the address is to be suppressed at once. Never true for a 4yz."""
    again: bool
    """Whether the same message should be tried again later."""
    retry_after_seconds: float | None
    """What the reply itself asked for, or the provider is known to want; None leaves it to the caller."""
    code: int | None
    enhanced: str
    """RFC 3463 status such as `5.1.1`, or empty."""
    text: str
    """The reply's text: one line, control characters escaped, at most 512 characters."""
