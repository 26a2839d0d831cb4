"""Many sessions over several relays, within the limits of each relay and each provider.

Every connection has a worker that looks for the next message it may send: one that the relay's rate and
share allow, and that a provider's lane may start. Other messages wait in their lanes without delaying
anyone else. Everything taken is recorded exactly once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from mailer.config import ProviderLimits
from mailer.errors import RelayDownError, RelayError
from mailer.smtp.lanes import Item, Lane, Lanes
from mailer.smtp.relay import Access, RelayState, all_down
from mailer.smtp.session import Attempt, Fate, Stage, Timeouts
from mailer.smtp.sharing import Grant, Wish
from mailer.smtp.worker import Compose, NotNowError, Worker

__all__ = ["Access", "Compose", "Item", "Network", "NotNowError", "Pool", "Record", "RelayState", "Take"]

Take = Callable[[int, frozenset[str]], Awaitable[Sequence[Item]]]
Record = Callable[[Attempt, RelayState | None], None]

_TRIES: Final = 3
"""How often to try a message whose connection breaks before its body, before reporting it lost."""
_FEED_SECONDS: Final = 0.25
"""How long the feeder waits for a worker to ask for more before it looks again."""
_QUIET_SECONDS: Final = 10.0
"""When to say first that no server answers; then after three times as long, and so on."""
_LONG_HOLD_SECONDS: Final = 30.0
"""A provider held longer than this gives back the messages that wait for it."""


@dataclass(frozen=True, slots=True)
class Network:
    """How mail leaves: through which relays, within which providers' limits, and under which name."""

    relays: Mapping[str, Access]
    providers: Mapping[str, ProviderLimits] = field(default_factory=dict)
    client_name: str | None = None
    """The name to give in EHLO; None uses this machine's own."""
    timeouts: Timeouts = field(default_factory=Timeouts)
    patience_seconds: float = 60.0
    """How long to wait for a relay that worked and then failed."""


class Pool:
    """The connections of a run, and what their replies say about relays and providers.

    `take(count, except_domains)` returns at most `count` items to send, none to those domains; it is
    called again while earlier ones are under way. `compose(key)` makes a message right before it leaves;
    None means that it must not be sent after all, which the caller has noted. `record(attempt, relay)` is
    called once for each item taken that `compose` did not drop. The relay is None for `Fate.UNSENT`: such
    an item may go back to the queue untouched. While `may_send()` is false, nothing is started, and
    connections close once the reply to their last message has come.

    `say` gets a line for the operator when no server has answered for a while; `connected` gets the name
    of a relay and how many seconds it took to let us in.

    With `shared`, other processes use the same limits: the caller gets grants for the `wishes` of this
    pool, and nothing starts before the first.
    """

    def __init__(
        self,
        network: Network,
        *,
        take: Take,
        compose: Compose,
        record: Record,
        window: int,
        now: Callable[[], float] = time.monotonic,
        may_send: Callable[[], bool] = lambda: True,
        shared: bool = False,
        say: Callable[[str], None] | None = None,
        connected: Callable[[str, float], None] = lambda relay, seconds: None,
    ) -> None:
        self.relays = [RelayState(name, access, shared=shared) for name, access in network.relays.items()]
        self.lanes = Lanes(network.providers, shared=shared)
        self.compose = compose
        self.client_name = network.client_name
        self.timeouts = network.timeouts
        self.now = now
        self.may_send = may_send
        self.connected = connected
        self.stopping = False
        self.resting = False
        """Whether the pool has nothing to do until `deliver` is called."""
        self.opening = 0
        self.heard_at = now()
        self._take = take
        self._record = record
        self._window = window
        # Early enough for a database some milliseconds away.
        self._few = window * 3 // 4
        self._lane_enough = max(1, window // 4)
        self._patience_seconds = network.patience_seconds
        self._failure: Exception | None = None
        self._say = say
        self._workers: dict[Worker, asyncio.Task[None]] = {}
        self._pending = 0
        self._ask_below = 0
        self._tries: dict[int, int] = {}
        self._work_came = asyncio.Event()
        self._more_wanted = asyncio.Event()

    async def deliver(self) -> None:
        """Send until `take` returns nothing more and everything taken is recorded.

        Returns early after `stop`, and when everything left belongs to providers that are `held`.
        Raises `RelayError` when no relay can be used, and whatever `take`, `compose` or `record` raised;
        messages under way are recorded first.
        """
        self.stopping, self.resting, self._failure = False, False, None
        self.heard_at = self.now()
        workers = self._workers = {
            worker: asyncio.create_task(self._guard(worker.work()))
            for relay in self.relays
            for worker in [Worker(self, relay) for _ in range(relay.settings.connections)]
        }
        feeding = asyncio.create_task(self._guard(self._feed()))
        telling = asyncio.create_task(self._tell_waits())
        try:
            await feeding
            for worker, task in workers.items():
                # Do not wait at the end for a relay that takes minutes to greet.
                if worker.opening:
                    task.cancel()
            await asyncio.gather(*workers.values(), return_exceptions=True)
        finally:
            self.stopping = True
            for task in (feeding, telling, *workers.values()):
                task.cancel()
            await asyncio.gather(feeding, telling, *workers.values(), return_exceptions=True)
            self._give_back(self.lanes.give_back_all())
            self.resting = True
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Start no more messages; `deliver` returns once those under way are recorded.

        May itself call `record` for waiting items.
        """
        self.stopping = True
        self._give_back(self.lanes.give_back_all())
        self._announce_work()
        self._more_wanted.set()

    def abort(self) -> None:
        """Close all connections; messages whose body has left are recorded as uncertain."""
        self.stop()
        for task in self._workers.values():
            task.cancel()

    def put_first(self, items: Sequence[Item]) -> None:
        """Queue these items ahead of all others; a pool that is stopping records them as unsent."""
        self._pending += len(items)
        if self.stopping:
            self._give_back(items)
            return
        for item in reversed(items):
            self.lanes.add(item, first=True)
        self._announce_work()

    def slow_down(self, domain: str, retry_after_seconds: float | None = None) -> None:
        """Halve the rate for this domain's provider, after the pause that its reply asked for.

        May be called from `record`, and may itself call `record` for waiting items.
        """
        lane = self.lanes.own_lane(domain)
        lane.pace.slow_down(self.now(), retry_after_seconds)
        self._release(lane)

    def hold(self, domain: str, seconds: float) -> None:
        """Start no message to this domain's provider for this long. Otherwise like `slow_down`."""
        lane = self.lanes.own_lane(domain)
        lane.pace.hold(self.now(), seconds)
        self._release(lane)

    def held(self) -> dict[str, float]:
        """Return the domains that are on hold, with the seconds left."""
        now = self.now()
        return {
            domain: lane.pace.not_before - now
            for lane in self.lanes.limited()
            if lane.pace.not_before > now
            for domain in self.lanes.domains_of([lane])
        }

    def wishes(self) -> list[Wish]:
        """Return what this process wants of the shared limits."""
        now = self.now()
        wanted = [relay.wish(wanted=not self.resting) for relay in self.relays]
        return wanted + [lane.wish(now) for lane in self.lanes.limited()]

    def accept(self, wishes: Sequence[Wish], grants: Sequence[Grant]) -> None:
        """Follow the grants for these wishes, and those for domains that other processes limit."""
        now, asked = self.now(), {wish.name: wish for wish in wishes}
        relays = {relay.limit: relay for relay in self.relays}
        lanes = {lane.limit: lane for lane in self.lanes.limited()}
        for grant in grants:
            wish = asked.get(grant.name, Wish(name=grant.name))
            if (relay := relays.get(grant.name)) is not None:
                relay.accept(grant)
                continue
            lane = lanes.get(grant.name) or self.lanes.own_lane(grant.name.removeprefix("domain "))
            # The domain may belong to a configured provider here.
            if lane.limit == grant.name:
                lane.accept(wish, grant, now)
                self._release(lane)
        self._announce_work()

    async def rest(self, seconds: float) -> None:
        """Wait until there may be work, but no longer than this."""
        await _wait(self._work_came, seconds)

    def done(self, item: Item, attempt: Attempt, relay: RelayState) -> None:
        """Record an attempt, or queue the message for another connection."""
        if attempt.fate is Fate.LOST:
            # Connections that we close because nothing may be sent do not count.
            tries = self._tries[item.key] = self._tries.get(item.key, 0) + self.may_send()
            if tries < _TRIES and not self.stopping:
                self.lanes.add(item, first=True)
                self._announce_work()
                return
            if self.stopping:
                attempt = replace(attempt, fate=Fate.UNSENT)
        if self._tries:
            self._tries.pop(item.key, None)
        self._record(attempt, relay)
        self.finished(1)

    def finished(self, count: int) -> None:
        """Count deliveries that this pool no longer holds."""
        self._pending -= count
        if count and self._pending in (0, self._ask_below):
            self._more_wanted.set()

    def began(self, lane: Lane) -> None:
        """Note that one message fewer waits in a lane."""
        if self.lanes.waiting == self._few or len(lane.waiting) == self._lane_enough - 1:
            self._more_wanted.set()

    def set_aside(self, relay: RelayState, error: RelayError) -> bool:
        """Stop using a relay that refuses our configuration; return False for the last, which stays."""
        if all(other.set_aside for other in self.relays if other is not relay):
            return False
        relay.set_aside, relay.error = True, error
        self._announce_work()
        return True

    def relay_failed(self, relay: RelayState, error: RelayDownError) -> None:
        """Note that a relay cannot be used; give up once every relay is hopeless."""
        now = self.now()
        relay.fail(error, now)
        if self._failure is None and all(x.hopeless(now, self._patience_seconds) for x in self.relays):
            self._failure = all_down(self.relays)
            self.stop()

    async def _guard(self, work: Coroutine[object, object, None]) -> None:
        """Do the work; an error stops the pool cleanly and is raised by `deliver`."""
        try:
            await work
        except Exception as error:
            if self._failure is None:
                self._failure = error
            self.stop()

    async def _tell_waits(self) -> None:
        """Say what the workers wait for while no server answers."""
        quiet = _QUIET_SECONDS
        while self._say is not None:
            await asyncio.sleep(_QUIET_SECONDS / 2)
            seconds = self.now() - self.heard_at
            waits = Counter(worker.awaited for worker in self._workers if worker.awaited)
            if not waits or seconds < _QUIET_SECONDS:
                quiet = _QUIET_SECONDS
            elif seconds >= quiet:
                quiet *= 3
                what, number = waits.most_common(1)[0]
                many = f" on {number} connections" if number > 1 else ""
                self._say(f"no answer for {seconds:.0f} seconds; waiting for {what}{many}")

    async def _feed(self) -> None:
        """Take a window of items whenever fewer than three quarters of a window wait for the workers."""
        without: frozenset[str] | None = None  # the domains excepted when `take` returned nothing
        while not self.stopping:
            self._more_wanted.clear()  # first, so that nothing during `take` is missed
            for lane in self.lanes.limited():
                self._release(lane)  # items that arrived, or came back, after the hold began
            if not self._has_places():
                # Other processes have all connections, so they get these deliveries, too.
                self._give_back(self.lanes.give_back_all())
                await _wait(self._more_wanted, _FEED_SECONDS)
                continue
            crowded = self._crowded()
            domains = self.lanes.domains_of(crowded)
            ready = self.lanes.waiting - sum(len(lane.waiting) for lane in crowded)
            at_rest = self._pending == 0
            # If `take` had items but no room for them, it has room again once half is settled.
            may_have_more = domains != without or self._pending <= self._ask_below
            if at_rest or (ready <= self._few and may_have_more and self._has_room(crowded)):
                items = await self._take(self._window - self._slow_ones(crowded), domains)
                if at_rest and not items:
                    break
                self._add(items)
                without, self._ask_below = None if items else domains, self._pending // 2
            await _wait(self._more_wanted, _FEED_SECONDS)
        self.stop()

    def _crowded(self) -> list[Lane]:
        """Return the lanes that need no more items: on hold, left to others, or with enough waiting."""
        now, enough, lanes = self.now(), self._lane_enough, self.lanes.limited()
        return [
            lane
            for lane in lanes
            if max(lane.pace.not_before, lane.denied_until) > now or len(lane.waiting) >= enough
        ]

    def _slow_ones(self, crowded: Sequence[Lane]) -> int:
        """Return how many items wait for slow providers that take more; nobody else needs their places."""
        return sum(
            len(lane.waiting)
            for lane in self.lanes.limited()
            if lane.pace.per_second and not any(lane is other for other in crowded)
        )

    def _has_places(self) -> bool:
        """Return whether this process may open a connection to any relay."""
        return any(relay.places for relay in self.relays)

    def _has_room(self, crowded: Sequence[Lane]) -> bool:
        """Return whether there is room for another window; slow providers give back items to make room."""
        for lane in crowded:
            if self.lanes.waiting > self._window + self._few and lane.pace.per_second:
                self._give_back(self.lanes.give_back(lane, keep=self._lane_enough))
        return self.lanes.waiting <= 2 * self._window

    def _add(self, items: Sequence[Item]) -> None:
        self._pending += len(items)
        if self.stopping:
            self._give_back(items)
            return
        for item in items:
            self.lanes.add(item)
        self._announce_work()

    def _release(self, lane: Lane) -> None:
        now = self.now()
        if lane.pace.not_before - now > _LONG_HOLD_SECONDS or lane.denied_until > now:
            self._give_back(self.lanes.give_back(lane))

    def _give_back(self, items: Sequence[Item]) -> None:
        for item in items:
            self._tries.pop(item.key, None)
            self._record(Attempt(item.key, Fate.UNSENT, Stage.LOCAL), None)
        self.finished(len(items))

    def _announce_work(self) -> None:
        # Wakes the workers waiting now; later ones look before they wait.
        self._work_came.set()
        self._work_came.clear()


async def _wait(event: asyncio.Event, seconds: float) -> None:
    # Not `wait_for`, which can swallow a cancellation before Python 3.12.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
