"""The form of a rule: its conditions, and the meaning of a reply that meets them."""

from __future__ import annotations

from msgspec import Struct

from mailer.replies.verdict import BounceClass, Fault, ReplyClass


class Rule(Struct, frozen=True):
    """One row of the tables: when all conditions hold, the reply means `means`.

    An empty condition always holds. If several rules hold, the first in the order of the tables
    counts.
    """

    means: BounceClass
    phrases: tuple[str, ...] = ()
    """The text contains one of these; see `words` for their syntax."""
    status: str = ""
    """The RFC 3463 status without its first digit (`7.27`), or a range (`7.606-7.649`)."""
    codes: tuple[int, ...] = ()
    """Three-digit reply codes."""
    provider: str = ""
    """Part of the name of the host that replied; the text is not searched."""
    names_address: bool = False
    """Whether the text must contain an email address."""
    action: ReplyClass | None = None
    """The action; None derives it from `means` and the first digit."""
    retry_after_seconds: float | None = None
    fault: Fault | None = None
    """None derives it from `means`."""
    after_body: bool = False
    """Whether this provider is known to look up recipients only after the body."""
    only_recipient: bool = False
    """Whether the words could be about any address, so that they count only in reply to RCPT."""

    def __post_init__(self) -> None:
        if not (self.phrases or self.status or self.codes):
            raise ValueError("a rule needs phrases, a status or codes")
