"""One pass over a mailbox: every mail is recorded, and only then marked as seen where it lies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Final, Protocol

from mailer.bounces.batch import record_each
from mailer.bounces.record import Effect, Recorded, ReportOutcome, Rules
from mailer.database.session import Database
from mailer.tokens import Signer

# Mails that share their two commits. While one batch is acted upon no one else can write (SQLite), so
# it stays well below a second.
_BATCH: Final = 20


@dataclass(frozen=True, slots=True)
class Incoming:
    """A mail in a box; `key` is the box's own name for it."""

    key: str
    raw: bytes


class Box(Protocol):
    """Where reports lie."""

    @property
    def source(self) -> str:
        """What `StoredReport.source` says: `maildir:PATH`, `imap:NAME` …"""

    def mails(self) -> Iterator[Incoming]:
        """Yield the mails that have not been marked yet."""

    def mark(self, mail: Incoming) -> None:
        """Mark a mail that has been stored, so that the next pass leaves it alone."""


@dataclass(slots=True)
class Tally:
    """What a pass did."""

    read: int = 0
    duplicates: int = 0
    outcomes: Counter[ReportOutcome] = field(default_factory=Counter)
    effects: Counter[Effect] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    """Mails that could not be recorded, with the reason; they stay where they are."""

    def add(self, recorded: Recorded) -> None:
        """Count one recorded mail."""
        self.read += 1
        if recorded.duplicate:
            self.duplicates += 1
            return
        self.outcomes[recorded.outcome] += 1
        if recorded.effect is not Effect.NOTHING:
            self.effects[recorded.effect] += 1

    def merge(self, other: Tally) -> None:
        """Add another pass."""
        self.read += other.read
        self.duplicates += other.duplicates
        self.outcomes += other.outcomes
        self.effects += other.effects
        self.failures += other.failures


def fetch(
    database: Database, signer: Signer, box: Box, *, clock: Callable[[], datetime], rules: Rules
) -> Tally:
    """Record every unmarked mail of a box, and mark it once it is stored.

    One mail that makes trouble is told in `failures` and stays; the others go on. What stops all of
    them (a full disk, a lost connection) is raised: `MailerError`.
    """
    tally = Tally()
    waiting = iter(box.mails())
    while batch := list(islice(waiting, _BATCH)):
        raws = [mail.raw for mail in batch]
        done = record_each(database, signer, raws, source=box.source, at=clock(), rules=rules)
        for mail, result in zip(batch, done, strict=True):
            if isinstance(result, Exception):
                said = f"{box.source}: {mail.key}: {type(result).__name__}: {result}"
                tally.failures.append(said[:512])
                continue
            tally.add(result)
            box.mark(mail)
    return tally
