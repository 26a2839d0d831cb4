"""Rules and mailboxes from the settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from mailer.bounces.alerts import AlertLimits
from mailer.bounces.boxes.fetch import Box
from mailer.bounces.boxes.imap import Imap
from mailer.bounces.boxes.maildir import Maildir
from mailer.bounces.boxes.pop3 import Pop3
from mailer.bounces.boxes.watching import OpenBox
from mailer.bounces.policy import SoftLimits
from mailer.bounces.record import Rules
from mailer.config import Mailbox, Settings, password


def rules_of(settings: Settings) -> Rules:
    """Return the rules for trusting and counting reports."""
    section = settings.bounces
    return Rules(
        unsubscribe_address=settings.unsubscribe_address,
        trust_unsigned=section.trust_unsigned,
        limits=SoftLimits(section.soft_points, section.soft_days, section.quiet_days),
        alerts=AlertLimits(section.alert_bounces_percent, section.alert_complaints_percent),
    )


def boxes_of(settings: Settings) -> Sequence[OpenBox]:
    """Return functions that open the configured mailboxes; they connect only when called."""
    folders = [partial(_maildir, settings.path(folder)) for folder in settings.bounces.maildirs]
    servers = [partial(_server, section, settings.folder) for section in settings.bounces.boxes]
    return [*folders, *servers]


@contextmanager
def _maildir(folder: Path) -> Iterator[Box]:
    yield Maildir(folder)


def _server(section: Mailbox, folder: Path) -> AbstractContextManager[Box]:
    def secret() -> str:
        return password(section, folder) or ""

    return Imap(section, secret) if section.kind == "imap" else Pop3(section, secret)
