"""One connection of a pool: which message it may send next, and when it opens and closes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final, Protocol

from mailer.errors import RelayDownError, RelayError
from mailer.smtp.lanes import Item, Lane, Lanes
from mailer.smtp.relay import RelayState
from mailer.smtp.session import Attempt, End, Outgoing, SmtpSession, Stage, Timeouts

Compose = Callable[[int], Outgoing | None]

_IDLE_SECONDS: Final = 10.0
_LOOK_AGAIN_SECONDS: Final = 0.05
"""The first pause before checking again whether another worker made room; it grows to a second."""
_NO_MORE_CONNECTIONS_SECONDS: Final = 5.0
"""How long to wait after a relay refused one connection while it serves others."""


class NotNowError(Exception):
    """Raised by `compose` if nothing can be sent at present: the message goes back to its lane."""


class WorkerPool(Protocol):
    """The part of `Pool` that its workers share."""

    relays: list[RelayState]
    lanes: Lanes
    compose: Compose
    client_name: str | None
    timeouts: Timeouts
    now: Callable[[], float]
    may_send: Callable[[], bool]
    connected: Callable[[str, float], None]
    stopping: bool
    opening: int
    """How many workers are connecting."""
    heard_at: float
    """When a server last answered or let us in, on the clock `now`."""

    async def rest(self, seconds: float) -> None:
        """Wait until there may be work, but no longer than this."""

    def began(self, lane: Lane) -> None:
        """Note that one message fewer waits in a lane."""

    def done(self, item: Item, attempt: Attempt, relay: RelayState) -> None:
        """Record an attempt, or queue the message for another connection."""

    def finished(self, count: int) -> None:
        """Count deliveries that the pool no longer holds."""

    def set_aside(self, relay: RelayState, error: RelayError) -> bool:
        """Stop using a misconfigured relay; return False if it is the last one."""

    def relay_failed(self, relay: RelayState, error: RelayDownError) -> None:
        """Note that a relay cannot be used at present."""


class Worker:
    """One connection to a relay, opened when there is something to send."""

    def __init__(self, pool: WorkerPool, relay: RelayState) -> None:
        self._pool = pool
        self._relay = relay
        self._session: SmtpSession | None = None
        self._taken: dict[int, tuple[Item, Lane]] = {}
        self._sent = 0
        self._sent_by_lane: dict[int, int] = {}
        self._spent: list[Lane] = []
        self._answered = False
        self._rest_until = -math.inf
        self.opening = False
        """Whether it is still connecting; it holds no message then."""
        self._step = ""

    @property
    def awaited(self) -> str:
        """What it waits for at present: a step of opening, or replies; empty if nothing."""
        relay = self._relay
        where = f"{relay.name} ({relay.settings.host}:{relay.settings.port})"
        if self.opening:
            return f"{where}: {self._step}"
        return f"{where}: its reply to a message" if self._taken else ""

    async def work(self) -> None:
        """Send until the pool stops."""
        try:
            while await self._work_waits():
                if self._session is None:
                    await self._open()
                if self._session is not None:
                    await self._send(self._session)
        finally:
            await self._disconnect()

    async def _work_waits(self) -> bool:
        """Wait; return True when a message may start here, False when the pool stops."""
        pool, relay, idle_since, patience = self._pool, self._relay, self._pool.now(), 0.0
        while not pool.stopping:
            held_up = not pool.may_send()
            if held_up or relay.sessions > relay.places:
                await self._disconnect()
            delay = math.inf if held_up else self._delay()
            if delay <= 0:
                if self._session is not None and not self._session.usable:
                    await self._disconnect()
                return True
            if self._session is not None and pool.now() - idle_since > _IDLE_SECONDS:
                await self._disconnect()
            if self._session is None or math.isinf(delay):
                # Hundreds of idle connections must not poll all the time.
                patience = min(1.0, patience + _LOOK_AGAIN_SECONDS)
                delay = patience if math.isinf(delay) else max(delay, patience)
            await pool.rest(min(delay, _IDLE_SECONDS) if pool.lanes.waiting else _IDLE_SECONDS)
        return False

    def _delay(self) -> float:
        """Return the seconds until a message may start; infinity if that depends on other workers."""
        pool, relay, now = self._pool, self._relay, self._pool.now()
        if not pool.lanes.waiting or (self._session is None and relay.connected >= relay.places):
            return math.inf
        if self._session is None and (pool.opening >= pool.lanes.waiting or (pool.opening and not relay.up)):
            return math.inf
        wait = max(relay.delay(now, pool.relays), self._rest_until - now)
        if wait > 0:
            return wait
        if pool.lanes.next_for(id(self), now, spent=self._spent) is not None:
            return 0.0
        return pool.lanes.delay(now)

    async def _open(self) -> None:
        pool, relay, began = self._pool, self._relay, time.monotonic()
        pool.opening += 1
        relay.opening += 1
        self.opening = True
        try:
            self._session = await SmtpSession.open(
                relay.settings,
                password=relay.access.password,
                client_name=pool.client_name,
                tls=relay.tls(),
                timeouts=pool.timeouts,
                awaiting=self._begin_step,
            )
        except RelayDownError as error:
            self._failed(error)
        except RelayError as error:
            if not pool.set_aside(relay, error):
                raise
        else:
            pool.heard_at = pool.now()
            relay.sessions += 1
            relay.greeted_as = self._session.greeted_as
            pool.connected(relay.name, time.monotonic() - began)
        finally:
            self.opening = False
            pool.opening -= 1
            relay.opening -= 1

    def _begin_step(self, step: str) -> None:
        self._step = step

    async def _send(self, session: SmtpSession) -> None:
        end = await session.run(self._next, self._settled, self._pool.may_send)
        if end is End.CLOSED and not self._answered and self._pool.may_send():
            where = f"{self._relay.settings.host}:{self._relay.settings.port}"
            self._failed(RelayDownError(f"{where}: closes connections before accepting a message"))
        if end is End.CLOSED or self._spent or self._sent >= self._relay.settings.messages_per_connection:
            await self._disconnect()

    def _failed(self, error: RelayDownError) -> None:
        """Note that this connection failed; it still counts as opening or as a session."""
        if self._relay.sessions + self._relay.opening > 1:
            # The relay serves our other connections, so it may just not want more of them.
            self._rest_until = self._pool.now() + _NO_MORE_CONNECTIONS_SECONDS
        else:
            self._pool.relay_failed(self._relay, error)

    async def _disconnect(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            self._relay.sessions -= 1
            self._relay.closing += 1
            self._sent, self._spent, self._answered = 0, [], False
            self._sent_by_lane.clear()
            try:
                await session.close()
            finally:
                self._relay.closing -= 1

    def _next(self) -> Outgoing | None:
        """Compose and return the next message for this connection; None if there is none."""
        pool, relay, lanes = self._pool, self._relay, self._pool.lanes
        while not pool.stopping and self._sent < relay.settings.messages_per_connection and pool.may_send():
            now = pool.now()
            if relay.delay(now, pool.relays) > 0 or relay.sessions > relay.places:
                break
            lane = lanes.next_for(id(self), now, spent=self._spent)
            if lane is None:
                break
            item = lanes.start(lane, id(self), now)
            pool.began(lane)
            try:
                outgoing = pool.compose(item.key)
            except NotNowError:
                lane.finish(id(self))
                lanes.add(item, first=True)
                return None
            except BaseException:
                lane.finish(id(self))
                lanes.add(item, first=True)
                raise
            if outgoing is not None:
                self._taken[item.key] = item, lane
                self._count(lane, now)
                return outgoing
            lane.finish(id(self))
            pool.finished(1)
        return None

    def _count(self, lane: Lane, now: float) -> None:
        self._relay.take(now)
        self._sent += 1
        if lane.messages_per_connection:
            sent = self._sent_by_lane[id(lane)] = self._sent_by_lane.get(id(lane), 0) + 1
            if sent >= lane.messages_per_connection:
                self._spent.append(lane)

    def _settled(self, attempt: Attempt) -> None:
        item, lane = self._taken.pop(attempt.key)
        lane.finish(id(self))
        # A 421 says no more about the relay than a lost connection.
        if attempt.reply is not None and attempt.reply.code != 421 and attempt.stage is not Stage.LOCAL:
            self._answered = True
            self._pool.heard_at = self._pool.now()
            self._relay.progress(self._pool.now(), self._pool.relays)
        self._pool.done(item, attempt, self._relay)
