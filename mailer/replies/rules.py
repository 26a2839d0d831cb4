"""The form of a rule: what a reply must say, and what it then means."""

from __future__ import annotations

from dataclasses import dataclass

from mailer.replies.verdict import BounceClass, Fault, ReplyClass


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the tables: when all conditions hold, the reply means `means`.

    A condition that is left empty always holds. Where several rules hold, the first in the order of the
    tables counts.
    """

    means: BounceClass
    phrases: tuple[str, ...] = ()
    """One of these stands in the text; see `words` for how they are written."""
    status: str = ""
    """The RFC 3463 status without its first digit (`7.27`), or a range (`7.606-7.649`)."""
    codes: tuple[int, ...] = ()
    """Three-digit reply codes."""
    provider: str = ""
    """Part of the name of the host that replied, never of its text."""
    names_address: bool = False
    """Whether an email address stands in the text."""
    action: ReplyClass | None = None
    """What the sender does; None derives it from `means` and the first digit."""
    retry_after_seconds: float | None = None
    fault: Fault | None = None
    """None derives it from `means`."""
    after_body: bool = False
    """Whether this provider is known to look the recipient up only after the message came."""
    only_recipient: bool = False
    """Whether the words could be about any address: believed only where the recipient was the question."""

    def __post_init__(self) -> None:
        if not (self.phrases or self.status or self.codes):
            raise ValueError("a rule needs phrases, a status or codes")
