"""Fetch a mailbox: record each message, and only then mark it as seen or delete it there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Final, Protocol

from mailer.bounces.batch import record_each
from mailer.bounces.record import Effect, Recorded, ReportOutcome, Rules
from mailer.database.engine import Database
from mailer.tokens import Signer

# Messages that share two commits. SQLite allows no other writer while a batch is acted on, so a batch must
# take well under a second.
_BATCH: Final = 20


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message in a mailbox; `key` identifies it there."""

    key: str
    raw: bytes


class Box(Protocol):
    """A mailbox that receives reports."""

    @property
    def source(self) -> str:
        """The value for `StoredReport.source`: `maildir:PATH`, `imap:NAME` …"""

    def messages(self) -> Iterator[Incoming]:
        """Yield the messages that have not been marked yet."""

    def mark(self, mail: Incoming) -> None:
        """Mark a stored message, so that the next pass skips it."""


@dataclass(slots=True)
class Tally:
    """The results of a pass."""

    read: int = 0
    duplicates: int = 0
    outcomes: Counter[ReportOutcome] = field(default_factory=Counter)
    effects: Counter[Effect] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    """Errors with messages that could not be recorded and stay in the mailbox."""

    def add(self, recorded: Recorded) -> None:
        """Count a recorded message."""
        self.read += 1
        if recorded.duplicate:
            self.duplicates += 1
            return
        self.outcomes[recorded.outcome] += 1
        if recorded.effect is not Effect.NOTHING:
            self.effects[recorded.effect] += 1

    def merge(self, other: Tally) -> None:
        """Add the results of another pass."""
        self.read += other.read
        self.duplicates += other.duplicates
        self.outcomes += other.outcomes
        self.effects += other.effects
        self.failures += other.failures


def fetch(
    database: Database, signer: Signer, box: Box, *, clock: Callable[[], datetime], rules: Rules
) -> Tally:
    """Record the unmarked messages of a mailbox, and mark each once it is committed.

    A message that cannot be recorded is listed in `failures` and stays unmarked. Raises `MailerError` for
    problems that affect all messages, such as a full disk or a lost connection.
    """
    tally = Tally()
    waiting = iter(box.messages())
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
