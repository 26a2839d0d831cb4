"""A run of a queued issue on a clock that skips every wait."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from mailer.config import DeliverySettings, Newsletter, Paths, Relay, Settings
from mailer.database.engine import Database
from mailer.delivery.books import Books
from mailer.delivery.clock import Clock
from mailer.delivery.ending import Ended
from mailer.delivery.letter_queue import LetterQueue
from mailer.delivery.sender import Hooks, Sender
from mailer.smtp.pool import Access, Network
from tests.delivery.scene import AT, SIGNER, learn_nothing, make_composer, queued
from tests.smtp.clocked import ClockedLoop, clock, run_clocked
from tests.smtp.scripted import SILENCE, Script, serving

TEMPLATES = Path(__file__).parents[2] / "email_templates"
PEOPLE = 12
SETTINGS = DeliverySettings(window=8)


class Scene:
    """A queued issue, and a run of it whose clocks are the loop's."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.issue = queued(database, PEOPLE)
        self.shown: list[tuple[float, Books]] = []
        self.began = 0.0
        self.loop: ClockedLoop | None = None

    def seconds(self) -> float:
        """Return the seconds since the beginning, to the hundredth."""
        assert self.loop is not None
        return round(self.loop.time() - self.began, 2)

    def sender(
        self,
        relay: Relay | None = None,
        settings: DeliverySettings = SETTINGS,
        **hooks: Any,
    ) -> Sender:
        """Return a sender; call it on the loop."""
        self.loop = clock()
        self.began = self.loop.time()
        return Sender(
            self.database,
            self.issue.id,
            make_composer(self.issue.id),
            Network({"main": Access(relay or Relay(host="127.0.0.1", port=25))}, client_name="here.example"),
            settings,
            Hooks(learn_nothing, lambda known: self.shown.append((self.seconds(), known)), **hooks),
            Clock(
                now=lambda: AT + timedelta(seconds=self.seconds()), ticks=self.loop.time, settle_seconds=0.25
            ),
        )

    def letters(self) -> LetterQueue:
        """Return the letters of this database."""
        settings = Settings(newsletter=Newsletter(name="The Weekly"), paths=Paths(templates=TEMPLATES))
        return LetterQueue(settings, self.database, SIGNER)

    def run(
        self,
        script: Script,
        meanwhile: Callable[[Sender], Coroutine[Any, Any, None]] | None = None,
        *,
        settings: DeliverySettings = SETTINGS,
        **hooks: Any,
    ) -> tuple[Ended, float]:
        """Send the issue; return how it ended, and after how many seconds."""

        async def go() -> tuple[Ended, float]:
            async with serving(script) as relay:
                sender = self.sender(msgspec.structs.replace(relay, connections=1), settings, **hooks)
                running = clock().create_task(sender.run())
                if meanwhile is not None:
                    await meanwhile(sender)
                ended = await running
                seconds = self.seconds()
                assert clock().timers() == 0
                return ended, seconds

        return run_clocked(go())


def replace(part: object, **answers: Any) -> None:
    """Let a part of a run answer as the test says."""
    for name, answer in answers.items():
        setattr(part, name, answer)


def must_not_be_asked(*arguments: Any) -> Any:
    raise AssertionError("this must not be asked")


def silent(verb: str, nth: int = 1) -> Script:
    return Script(answer=lambda said, count: SILENCE if said == verb and count >= nth else None)


def void(found: object) -> None:
    """Take a value that nobody needs."""
