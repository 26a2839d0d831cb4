"""The possible meanings of a reply, their consequences, and the weight of each class of bounce."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from msgspec import Struct


class BounceClass(StrEnum):
    """The meaning of a refusal."""

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
    """The sender's reaction."""

    ACCEPTED = "accepted"
    HARD = "hard"
    """This address will not work: suppress it."""
    FULL = "full"
    """Over quota: try again daily, for at most three days."""
    RATE = "rate"
    """Too fast: slow down for this provider and send the same message later."""
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
    """Any other 5yz: fail this delivery; the subscriber stays subscribed."""


class Fault(StrEnum):
    """Whose fault a refusal is."""

    OURS = "ours"
    """Our sender address, domain, DNS, HELO, account, authentication or IP address."""
    MESSAGE = "message"
    """The content or the size of this message."""
    RECIPIENT = "recipient"
    """The recipient's mailbox or domain, or the recipient's own filter."""
    RECEIVER = "receiver"
    """The receiving system: out of order, busy, unreachable, or its policy."""
    UNKNOWN = "unknown"


class VerdictBasis(StrEnum):
    """The basis of a verdict, from strong to weak."""

    TEXT = "text"
    """Words that the receiver wrote."""
    STATUS = "status"
    """The RFC 3463 status alone."""
    NOTHING = "nothing"
    """Neither was known."""


class Verdict(Struct, frozen=True):
    """The meaning of a reply, and its consequences."""

    reply_class: ReplyClass
    bounce_class: BounceClass | None
    """None when accepted."""
    hard: bool
    """Whether to suppress the address immediately. Never true for a 4yz."""
    again: bool
    """Whether the same message should be tried again later."""
    retry_after_seconds: float | None
    """The pause that the reply asked for, or the provider is known to want; None leaves it to the caller."""
    code: int | None
    enhanced: str
    """RFC 3463 status such as `5.1.1`, or empty."""
    text: str
    """The reply's text: one line, control characters escaped, at most 512 characters."""
    basis: VerdictBasis = VerdictBasis.TEXT
    fault: Fault = Fault.UNKNOWN
    """Whose fault it is. `OURS` affects every recipient alike, so it never counts against one of them."""


FAULT: Final[Mapping[BounceClass, Fault]] = MappingProxyType({
    BounceClass.INVALID_MAILBOX: Fault.RECIPIENT,
    BounceClass.INVALID_DOMAIN: Fault.RECIPIENT,
    BounceClass.MOVED: Fault.RECIPIENT,
    BounceClass.MAILBOX_DISABLED: Fault.RECIPIENT,
    BounceClass.MAILBOX_FULL: Fault.RECIPIENT,
    BounceClass.FILTERED: Fault.RECIPIENT,
    BounceClass.EXPIRED: Fault.RECEIVER,
    BounceClass.NETWORK: Fault.RECEIVER,
    BounceClass.TRANSIENT_SYSTEM: Fault.RECEIVER,
    BounceClass.RATE_LIMITED: Fault.RECEIVER,
    BounceClass.REPUTATION_BLOCK: Fault.OURS,
    BounceClass.AUTH_FAILURE: Fault.OURS,
    BounceClass.POLICY_REJECT: Fault.RECEIVER,
    BounceClass.CONTENT: Fault.MESSAGE,
    BounceClass.MESSAGE_TOO_LARGE: Fault.MESSAGE,
    BounceClass.PROTOCOL: Fault.OURS,
    BounceClass.UNDETERMINED: Fault.UNKNOWN,
})  # fmt: skip
"""Whose fault each class is, unless the reply says otherwise."""


class Alert(StrEnum):
    """The consequences of a class of bounces, apart from its effect on the subscriber."""

    NOBODY = "nobody"
    THROTTLE = "throttle"
    """Slow this provider."""
    PROVIDER = "provider"
    """Pause this provider and tell the operator."""
    ISSUE = "issue"
    """Tell the operator about this issue."""
    PAUSE_ISSUE = "pause_issue"
    """Pause the issue: the fault is ours and affects everybody."""
    SPIKE = "spike"
    """Tell the operator when it becomes frequent."""
    MOVED = "moved"
    """Show the operator the new address."""


class BouncePolicy(Struct, frozen=True):
    """The effect of a bounce of one class on the subscriber.

    `hard` suppresses immediately. Otherwise `weight` points are added to the soft count, at most once a day;
    `suppress_at` bounces of this class over at least `over_days` days, or within `within_days` days,
    suppress. None leaves it to the general count.
    """

    hard: bool = False
    weight: float = 0.0
    alert: Alert = Alert.NOBODY
    suppress_at: int | None = None
    within_days: int | None = None
    over_days: int | None = None


POLICY: Final[Mapping[BounceClass, BouncePolicy]] = MappingProxyType(
    {
        BounceClass.INVALID_MAILBOX: BouncePolicy(hard=True),
        BounceClass.INVALID_DOMAIN: BouncePolicy(hard=True),
        BounceClass.MOVED: BouncePolicy(hard=True, alert=Alert.MOVED),
        BounceClass.MAILBOX_DISABLED: BouncePolicy(weight=1.0, suppress_at=2, within_days=14),
        BounceClass.MAILBOX_FULL: BouncePolicy(weight=1.0, suppress_at=5, over_days=14),
        BounceClass.FILTERED: BouncePolicy(weight=1.0),
        BounceClass.EXPIRED: BouncePolicy(weight=1.0),
        BounceClass.NETWORK: BouncePolicy(weight=0.5),
        BounceClass.TRANSIENT_SYSTEM: BouncePolicy(),
        BounceClass.RATE_LIMITED: BouncePolicy(alert=Alert.THROTTLE),
        BounceClass.REPUTATION_BLOCK: BouncePolicy(alert=Alert.PROVIDER),
        BounceClass.AUTH_FAILURE: BouncePolicy(alert=Alert.PAUSE_ISSUE),
        BounceClass.POLICY_REJECT: BouncePolicy(weight=0.25, alert=Alert.SPIKE),
        BounceClass.CONTENT: BouncePolicy(alert=Alert.ISSUE),
        BounceClass.MESSAGE_TOO_LARGE: BouncePolicy(alert=Alert.ISSUE),
        BounceClass.PROTOCOL: BouncePolicy(alert=Alert.ISSUE),
        BounceClass.UNDETERMINED: BouncePolicy(weight=0.5),
    }
)
"""The policy for each class. A verdict with `hard` false is never treated as hard: a 4yz is soft."""


class Refusal(Struct, frozen=True):
    """A permanent refusal of one delivery of an issue."""

    issue_id: int
    subscriber_id: int
    verdict: Verdict
