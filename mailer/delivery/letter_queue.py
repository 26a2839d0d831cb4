"""The letters that a process is sending: claimed, composed, and settled by the judge of all deliveries.

A run sends letters before the messages of its issue, and the thread of `mailer serve` sends them too. The
first to claim a letter sends it, so a confirmation never waits behind a million messages.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Literal

from msgspec.structs import replace

from mailer.config import Settings
from mailer.database.engine import Database
from mailer.database.tables import DeliveryState
from mailer.delivery import editions, letters
from mailer.delivery.clock import jitter, now, ticks
from mailer.delivery.judging import decide, retry_delay
from mailer.delivery.latencies import Latencies
from mailer.delivery.letters import Letter, LetterKind
from mailer.delivery.patience import Patience
from mailer.delivery.queue import Settled
from mailer.errors import MailerError, RecipientError, RelayError
from mailer.rendering.message import Composer
from mailer.replies import Verdict
from mailer.smtp.pool import Item, RelayState
from mailer.smtp.session import Attempt, Fate, Outgoing
from mailer.tokens import Signer

LETTERS_AT_ONCE: Final = 20
"""The most letters that a process holds unsettled."""
_CLAIM_LASTS: Final = timedelta(minutes=15)
"""Longer than one message can take (RFC 5321 section 4.5.3.2), so that nobody gets a letter twice."""
_RETRY_BASE: Final = timedelta(minutes=1)
"""The longest first retry delay: someone is waiting for the letter."""
_FILES: Final[Mapping[LetterKind, Literal["confirmation", "welcome", "goodbye"]]] = {
    LetterKind.CONFIRMATION: "confirmation",
    LetterKind.WELCOME: "welcome",
    LetterKind.GOODBYE: "goodbye",
}
"""The files of the letters that have one."""
_log = logging.getLogger(__name__)


class LetterQueue:
    """The letters that this process has claimed, from the claim until they are settled.

    `exchange` and `close` write to the database in a thread; call everything on the event loop. A letter's
    key in the pool is negative, unlike any subscriber's id.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        signer: Signer,
        *,
        clock: Callable[[], datetime] = now,
        jitter: Callable[[], float] = jitter,
    ) -> None:
        # Imported before the loop runs: rendering takes a while to load, and `mailer status` needs none.
        from mailer.rendering.build import build_letter, build_message

        self._build_letter = build_letter
        self._build_message = build_message
        self._settings = settings
        delivery = settings.delivery
        self._delivery = replace(delivery, retry_base=min(delivery.retry_base, _RETRY_BASE))
        self._database = database
        self._signer = signer
        self._clock = clock
        self._jitter = jitter
        self.latencies = Latencies(database, ticks)
        """The run that sends these letters counts its own times here, too."""
        self._patience = Patience(delivery.database_patience.total_seconds())
        self._composers: dict[tuple[LetterKind, str], Composer] = {}
        self._claimed: dict[int, Letter] = {}
        self._settled: list[tuple[Letter, Settled]] = []
        self._unsent: list[Letter] = []

    @staticmethod
    def owns(key: int) -> bool:
        """Return whether a pool key belongs to a letter."""
        return key < 0

    def idle(self) -> bool:
        """Return whether there is nothing to claim and nothing to write."""
        return not (self._settled or self._unsent or self._due())

    async def exchange(self, count: int, except_domains: frozenset[str] = frozenset()) -> Sequence[Item]:
        """Write the results of letters and claim up to `count` due ones, ignoring these domains."""
        count = min(count, LETTERS_AT_ONCE - len(self._claimed))
        found = await self._in_thread(count, except_domains)
        return [Item(-letter.id, letter.domain) for letter in found]

    def compose(self, key: int) -> Outgoing | None:
        """Return the message of a letter; if it cannot be composed, settle the letter and return None."""
        letter = self._claimed[key]
        try:
            message = self._composer(letter).compose(letter.recipient, letter.asked_at)
        except RecipientError as error:
            self._put(key, Settled(letter.recipient.subscriber_id, DeliveryState.FAILED, reply=error.message))
            return None
        except Exception as error:
            # Most likely a broken template. The other letters must not wait for this one.
            said = error.message if isinstance(error, MailerError) else type(error).__name__
            _log.exception("a %s letter cannot be composed and waits", letter.kind)
            self._put(key, self._later(letter, said))
            return None
        return Outgoing(key, message.envelope, message.parts, wire_safe=True)

    def settle(self, attempt: Attempt, relay: RelayState | None) -> tuple[Verdict, str] | None:
        """Record an attempt to send a letter; return the verdict on the reply and the recipient's domain.

        Returns None if there was no reply to judge.
        """
        letter = self._claimed[attempt.key]
        if relay is None or attempt.fate is Fate.UNSENT:
            self._unsent.append(self._claimed.pop(attempt.key))
            return None
        decision = decide(
            attempt,
            letter.as_delivery(),
            self._delivery,
            at=self._clock(),
            server=relay.identity if attempt.fate is Fate.REFUSED else "",
            spread=self._jitter(),
        )
        settled = decision.settled
        self._measure(attempt, letter, relay.name, decision.verdict)
        if decision.our_fault:
            # An issue would be paused. A letter waits until the operator has changed the configuration.
            _log.error("letters wait: %s", decision.our_fault)
            later = self._later(letter, settled.reply or "")
            settled = replace(settled, due_at=later.due_at)
        self._put(attempt.key, settled)
        return (decision.verdict, letter.domain) if decision.verdict is not None else None

    def _measure(self, attempt: Attempt, letter: Letter, relay: str, verdict: Verdict | None) -> None:
        self.latencies.settled(attempt, letter.domain, relay, verdict)
        if attempt.fate is Fate.ACCEPTED:
            seconds = (self._clock() - letter.asked_at).total_seconds()
            self.latencies.accepted(letter.domain, letter.kind.value, seconds)

    async def close(self, error: RelayError | None = None) -> None:
        """Write all results; unsent letters are due again, with `error` as the reason.

        Waits for a database that is away: without the results, other processes would send the letters again.
        """
        self._unsent += self._claimed.values()
        self._claimed.clear()
        await self._in_thread(0, frozenset(), error.message if error else "", patience=self._patience)

    def hurry(self) -> None:
        """Stop waiting for a database that is away."""
        self._patience.hurry()

    async def _in_thread(
        self, count: int, except_domains: frozenset[str], why: str = "", *, patience: Patience | None = None
    ) -> list[Letter]:
        settled, self._settled = self._settled, []
        unsent, self._unsent = self._unsent, []
        step = partial(self._transact, settled, unsent, count, except_domains, why)
        work = asyncio.ensure_future(asyncio.to_thread(partial(patience.call, step) if patience else step))
        try:
            # Even a cancelled caller waits; otherwise nobody would send the letters just claimed.
            await asyncio.wait([work])
        finally:
            if not work.done():
                await asyncio.wait([work])
            if work.exception() is not None:
                # Nothing was written: the next exchange tries again.
                self._settled[:0], self._unsent[:0] = settled, unsent
            else:
                self._claimed.update((-letter.id, letter) for letter in work.result())
        return work.result()

    def _due(self) -> bool:
        with self._database.reading() as connection:
            return letters.due(connection, at=self._clock(), resend_uncertain=self._resend)

    @property
    def _resend(self) -> bool:
        return self._delivery.uncertain == "resend"

    def _put(self, key: int, settled: Settled) -> None:
        self._settled.append((self._claimed.pop(key), settled))

    def _later(self, letter: Letter, said: str) -> Settled:
        seconds = self._jitter() * retry_delay(
            letter.attempts,
            base_seconds=self._delivery.retry_base.total_seconds(),
            ceiling_seconds=self._delivery.retry_ceiling.total_seconds(),
        )
        due_at = self._clock() + timedelta(seconds=seconds)
        return Settled(letter.recipient.subscriber_id, DeliveryState.DEFERRED, due_at, reply=said)

    def _transact(
        self,
        settled: Sequence[tuple[Letter, Settled]],
        unsent: Sequence[Letter],
        count: int,
        except_domains: frozenset[str],
        why: str,
    ) -> list[Letter]:
        at = self._clock()
        if not (settled or unsent) and not (count > 0 and self._due()):
            return []
        with self._database.transaction() as connection:
            for letter, result in settled:
                if letters.settle(connection, letter, result, at=at):
                    _report(letter, result)
            for letter in unsent:
                letters.release(connection, letter, at=at, why=why)
            if count <= 0:
                return []
            return letters.claim(
                connection,
                limit=count,
                at=at,
                hold=_CLAIM_LASTS,
                give_up_after=self._delivery.give_up_after,
                resend_uncertain=self._resend,
                except_domains=except_domains,
            )

    def _composer(self, letter: Letter) -> Composer:
        if letter.kind is LetterKind.MESSAGE:
            return self._message_composer(letter.source)
        known = self._composers.get((letter.kind, letter.language))
        if known is None:
            settings = self._settings
            edition = self._build_letter(
                _FILES[letter.kind],
                settings.newsletter,
                settings.brand,
                settings.path(settings.paths.templates),
                public_url=settings.web.public_url,
                language=letter.language,
            )
            known = editions.composer(settings, edition, 0, self._signer, letter=True)
            self._composers[letter.kind, letter.language] = known
        return known

    def _message_composer(self, source: str) -> Composer:
        settings = self._settings
        edition = self._build_message(
            source,
            settings.newsletter,
            settings.brand,
            settings.path(settings.paths.templates),
            public_url=settings.web.public_url,
        )
        return editions.composer(settings, edition, 0, self._signer, letter=True)


def _report(letter: Letter, settled: Settled) -> None:
    match settled.state:
        case DeliveryState.DEFERRED | DeliveryState.UNCERTAIN:
            _log.warning("a %s letter waits for another attempt: %s", letter.kind, settled.reply)
        case DeliveryState.FAILED:
            _log.error("a %s letter was given up: %s", letter.kind, settled.reply)
        case _:
            return
