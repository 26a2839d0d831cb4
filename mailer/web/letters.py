"""The letters to one person, sent by a thread of `mailer serve`; each waits in the database until it left."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import uvloop

from mailer.audience import letters
from mailer.audience.letters import Letter, LetterKind
from mailer.config import Settings
from mailer.database.session import Database
from mailer.delivery import dispatch
from mailer.delivery.sender import now
from mailer.errors import MailerError, RecipientError
from mailer.rendering.build import build_letter
from mailer.rendering.message import Composer
from mailer.replies import judge
from mailer.smtp.session import Attempt, Fate, Outgoing
from mailer.tokens import Signer

_AT_ONCE: Final = 20
# Nobody else takes a letter for this long; a server that was killed with it leaves it behind until then.
_HELD: Final = timedelta(minutes=5)
_SECONDS_FOR_ONE: Final = 240.0
_FIRST_WAIT: Final = timedelta(minutes=1)
_LONGEST_WAIT: Final = timedelta(hours=6)
# Other processes may have left letters behind.
_LOOK_SECONDS: Final = 60.0
_log = logging.getLogger(__name__)


class Post:
    """Brings waiting letters to the relays, or to the outbox where there is none.

    `clock` tells the time, `jitter` by how much a wait is stretched.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        signer: Signer,
        *,
        clock: Callable[[], datetime] = now,
        jitter: Callable[[], float] = lambda: random.uniform(0.9, 1.1),  # noqa: S311 - keeps no secret
    ) -> None:
        self._settings = settings
        self._database = database
        self._signer = signer
        self._clock = clock
        self._jitter = jitter
        self._composers: dict[tuple[LetterKind, str], Composer] = {}
        self._called = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="mailer-letters")

    def start(self) -> None:
        """Begin with what waits already."""
        self._thread.start()

    def call(self) -> None:
        """Say that a letter waits."""
        self._called.set()

    def close(self) -> None:
        """End after the letter that is being sent; the others wait for the next start."""
        self._ended = True
        self._called.set()
        self._thread.join()

    def deliver(self) -> None:
        """Send every letter that is due; one that nobody took waits on, or is given up after some days."""
        while not self._ended:
            with self._database.transaction() as session:
                due = letters.claim(session, limit=_AT_ONCE, at=self._clock(), hold=_HELD)
            if not due:
                return
            for letter in due:
                self._finish(letter, *self._send(letter))

    def _run(self) -> None:
        while not self._ended:
            self._called.clear()
            try:
                self.deliver()
            except MailerError as error:
                # The pages must not end for it; the letters wait.
                _log.error("letters wait: %s", error)
            self._called.wait(_LOOK_SECONDS)

    def _send(self, letter: Letter) -> tuple[bool, bool, str]:
        """Return whether a letter left, whether it may be tried again, and what was said."""
        try:
            message = self._composer(letter.kind, letter.language).compose(letter.recipient, letter.asked_at)
            outgoing = Outgoing(letter.id, message.envelope, message.content, wire_safe=True)
            outcome = uvloop.run(self._brought(outgoing, letter.domain))
        except RecipientError as error:
            return False, False, error.message
        except (MailerError, TimeoutError) as error:
            return False, True, str(error) or "no relay answered in time"
        if outcome.fate is Fate.REFUSED and outcome.reply is not None:
            verdict = judge(outcome.reply.code, outcome.reply.enhanced, outcome.reply.text)
            return False, verdict.again, str(outcome.reply)
        if outcome.reply is not None:
            return outcome.fate is Fate.ACCEPTED, True, str(outcome.reply)
        return outcome.fate is Fate.ACCEPTED, True, outcome.problem or outcome.fate.value

    async def _brought(self, outgoing: Outgoing, domain: str) -> Attempt:
        async with asyncio.timeout(_SECONDS_FOR_ONE):
            return await dispatch.deliver_once(self._settings, outgoing, domain)

    def _finish(self, letter: Letter, left: bool, again: bool, said: str) -> None:
        at = self._clock()
        wait = min(_FIRST_WAIT * 2 ** min(letter.attempts - 1, 20), _LONGEST_WAIT) * self._jitter()
        with self._database.transaction() as session:
            if left:
                letters.settle(session, letter, said)
            elif again and at + wait - letter.asked_at <= self._settings.delivery.give_up_after:
                letters.wait(session, letter, said, until=at + wait)
                _log.warning("a %s letter waits for another try: %s", letter.kind, said)
            else:
                letters.give_up(session, letter, said)
                _log.error("a %s letter was given up: %s", letter.kind, said)

    def _composer(self, kind: LetterKind, language: str) -> Composer:
        known = self._composers.get((kind, language))
        if known is None:
            settings = self._settings
            edition = build_letter(
                kind.value,
                settings.newsletter,
                settings.brand,
                settings.path(settings.paths.templates),
                public_url=settings.web.public_url,
                language=language,
            )
            known = dispatch.composer(settings, edition, 0, self._signer, letter=True)
            self._composers[kind, language] = known
        return known
