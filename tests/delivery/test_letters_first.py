"""A letter never waits for a send that is under way: the run takes it, before the rest of the issue."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import event

from mailer.config import DeliverySettings, Newsletter, Paths, ProviderLimits, Settings
from mailer.database.engine import Database
from mailer.database.tables import SubscriberStatus
from mailer.delivery import letters
from mailer.delivery.books import Books
from mailer.delivery.clock import Clock, now
from mailer.delivery.ending import Ended, Ending
from mailer.delivery.issues import QueuedIssue
from mailer.delivery.latencies import ACCEPT, histograms
from mailer.delivery.letter_queue import LetterQueue
from mailer.delivery.letters import LetterKind
from mailer.delivery.sender import Hooks, Sender
from mailer.smtp.outbox import Outbox
from mailer.smtp.pool import Access, Network
from tests.delivery.scene import SIGNER, books, learn_nothing, make_composer, queued, subscribe

TEMPLATES = Path(__file__).parents[2] / "email_templates"
PEOPLE = 60
NEW = PEOPLE + 1
PER_SECOND = 40.0


@dataclass
class Run:
    """A run over one connection, 40 messages a second, during which somebody signs up."""

    database: Database
    issue: QueuedIssue
    box: Path
    answer: Callable[[str], str | None] = lambda recipient: None
    providers: dict[str, ProviderLimits] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    asked_after: int | None = None
    """How many messages were sent when the letter was asked for."""

    def go(self) -> Ended:
        return asyncio.run(self._main())

    async def _main(self) -> Ended:
        async with Outbox(self.box, answer=self._answer) as outbox:
            relay = msgspec.structs.replace(outbox.relay(), connections=1, rate_per_second=PER_SECOND)
            delivery = DeliverySettings(window=200)
            settings = Settings(
                newsletter=Newsletter(name="The Weekly"), delivery=delivery, paths=Paths(templates=TEMPLATES)
            )
            sender = Sender(
                self.database,
                self.issue.id,
                make_composer(self.issue.id),
                Network({"outbox": Access(relay)}, self.providers),
                delivery,
                Hooks(
                    learn_nothing,
                    self._look,
                    letters=LetterQueue(settings, self.database, SIGNER, jitter=lambda: 1.0),
                ),
                Clock(settle_seconds=0.1),
            )
            return await sender.run()

    def _answer(self, recipient: str) -> str | None:
        self.order.append(recipient)
        return self.answer(recipient)

    def received(self) -> Counter[str]:
        """Return how many messages each person got."""
        heads = (path.read_bytes().partition(b"\r\n\r\n")[0] for path in (self.box / "new").iterdir())
        return Counter(re.findall(rb"^X-Original-To: (\S+)", head, re.M)[0].decode() for head in heads)

    def _look(self, known: Books) -> None:
        if self.asked_after is None and known.sent >= 5:
            self.asked_after = len(self.order)
            ask(self.database)


def ask(database: Database) -> None:
    """Let one person ask for a confirmation."""
    subscribe(database, 1, first=NEW)
    with database.transaction() as connection:
        connection.exec_driver_sql(
            f"UPDATE subscribers SET status = '{SubscriberStatus.PENDING.value}' WHERE id = {NEW}"
        )
        letters.put(connection, NEW, LetterKind.CONFIRMATION, at=now())


def waiting(database: Database) -> dict[str, int]:
    with database.reading() as connection:
        found = letters.books(connection)
    assert found.balanced
    return {name: number for name, number in found.as_dict().items() if number}


@pytest.fixture
def run(database: Database, tmp_path: Path) -> Run:
    return Run(database, queued(database, PEOPLE), tmp_path / "box")


def test_confirmation_overtakes_a_running_send(run: Run) -> None:
    ended = run.go()
    assert (ended.ending, ended.books.sent) == (Ending.FINISHED, PEOPLE)
    assert run.asked_after is not None
    overtaken = run.order.index(f"s{NEW}@example.org") - run.asked_after
    # A look each half second, the next commit, and what is on the connection already.
    assert overtaken <= PER_SECOND
    assert run.order[-1] != f"s{NEW}@example.org"
    assert run.received() == {f"s{number}@example.org": 1 for number in range(1, NEW + 1)}
    assert waiting(run.database) == {"audience": 1, "sent": 1}
    with run.database.reading() as connection:
        times = {one.kind: one.cumulative[-1][1] for one in histograms(connection, ACCEPT)}
    assert times == {"confirmation": 1, "issue": PEOPLE}


def test_refused_letter_waits_and_the_issue_goes_on(run: Run) -> None:
    run.answer = lambda recipient: "451 4.3.0 Try again later" if str(NEW) in recipient else None
    assert run.go().books.sent == PEOPLE
    assert waiting(run.database) == {"audience": 1, "deferred": 1}


def test_fault_of_the_letters_table_does_not_stop_the_issue(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(connection: object, cursor: object, statement: str, *more: object) -> None:
        if "FROM letters" in statement:
            raise OSError(5, "Input/output error")

    event.listen(run.database.engine, "before_cursor_execute", fail)
    ended = run.go()
    event.remove(run.database.engine, "before_cursor_execute", fail)
    assert (ended.ending, ended.books.sent) == (Ending.FINISHED, PEOPLE)
    assert waiting(run.database) == {"audience": 1, "queued": 1}
    assert "letters wait: " in caplog.text


def test_letter_that_was_taken_when_the_run_ends_is_due_again(run: Run) -> None:
    # The whole provider is held: the letter comes back unsent.
    run.answer = lambda recipient: (
        "421 4.7.0 IP reputation is too low" if recipient.startswith("s9") else None
    )
    run.providers = {"example": ProviderLimits(domains=("example.org",))}
    ended = run.go()
    assert ended.ending is Ending.WAITING
    found = waiting(run.database)
    assert found.get("sending", 0) == 0
    assert books(run.database, run.issue).sending == 0


def test_run_without_letters_leaves_them_to_others(run: Run) -> None:
    ask(run.database)
    run.asked_after = 0

    async def main() -> Ended:
        async with Outbox(run.box) as outbox:
            sender = Sender(
                run.database, run.issue.id,
                make_composer(run.issue.id),
                Network({"outbox": Access(outbox.relay())}), DeliverySettings(), Hooks(learn_nothing),
            )  # fmt: skip
            return await sender.run()

    assert asyncio.run(main()).books.sent == PEOPLE
    assert waiting(run.database) == {"audience": 1, "queued": 1}
