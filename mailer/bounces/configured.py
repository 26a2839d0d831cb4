"""What the settings say about reports: how far they are believed, and where they lie."""

from __future__ import annotations

from mailer.bounces.fetch import Box
from mailer.bounces.maildir import Maildir
from mailer.bounces.policy import SoftLimits
from mailer.bounces.record import Rules
from mailer.config import Settings


def rules_of(settings: Settings) -> Rules:
    """Return how the settings want reports to be believed and counted."""
    section = settings.bounces
    return Rules(
        unsubscribe_address=settings.unsubscribe_address,
        trust_unsigned=section.trust_unsigned,
        limits=SoftLimits(section.soft_points, section.soft_days, section.quiet_days),
    )


def boxes_of(settings: Settings) -> list[Box]:
    """Return the configured mailboxes, not opened yet."""
    return [Maildir(settings.path(folder)) for folder in settings.bounces.maildirs]
