"""WebSub: notify a hub when the feeds change, so that feed readers show an issue within minutes.

The feeds name the hub, readers subscribe there, and a notification is a POST with the feed's address
(PubSubHubbub 0.4, section 7). It contains nothing else: the hub then reads the feed itself.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Final
from urllib.parse import urlencode, urlsplit

from mailer.config import Settings, is_loopback
from mailer.database.engine import Database
from mailer.review.links import is_public
from mailer.tasks import Tasks
from mailer.web.posting import TIMEOUT_SECONDS, PostError, post
from mailer.web.public.editions import Editions
from mailer.web.public.feeds import FEED_ENTRIES

TOPICS: Final = ("/feed.xml", "/rss.xml", "/feed.json")
LOOK_SECONDS: Final = 60.0
"""How often to look for changes of the feeds."""
MAX_WAIT_SECONDS: Final = 3_600.0
"""How long to wait at most after failures; the time doubles from `LOOK_SECONDS` on."""
_HEADERS: Final = {
    "content-type": "application/x-www-form-urlencoded",
    "user-agent": "mailer/1 (WebSub publisher)",
}
_log = logging.getLogger(__name__)


def notifying(settings: Settings, database: Database, tasks: Tasks) -> AbstractContextManager[None]:
    """Notify the configured hub in a task while the block runs; without a hub, do nothing."""
    if not settings.web.hub:
        return nullcontext()
    notifier = HubNotifier(settings.web.hub, settings.web.public_url, Editions(database))
    return tasks.running("hub", notifier.look, every_seconds=LOOK_SECONDS)


class HubNotifier:
    """Notifies one hub of changes.

    What it has announced is kept in memory only: after a restart it announces the feeds once more, which
    also makes up for a notification that the end of the process prevented.
    """

    def __init__(
        self,
        hub: str,
        public_url: str,
        editions: Editions,
        *,
        clock: Callable[[], float] = time.monotonic,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._hub = hub
        self._topics = [public_url.rstrip("/") + path for path in TOPICS]
        self._editions = editions
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._announced: tuple[object, ...] = ()
        self._failures = 0
        self._next = clock()

    def look(self) -> None:
        """Notify the hub if the feeds have changed; log a failure and try again later."""
        if self._clock() < self._next:
            return
        feed = tuple((one.slug, one.title, one.updated_at) for one in self._editions.listed()[:FEED_ENTRIES])
        if feed == self._announced:
            return
        try:
            asyncio.run(self._notify())
        except PostError as error:
            self._failures += 1
            # After many failures the number itself would become too large.
            wait = min(MAX_WAIT_SECONDS, LOOK_SECONDS * 2 ** min(self._failures - 1, 10))
            self._next = self._clock() + wait
            _log.warning("WebSub hub %s: %s; trying again in %.0f s", self._hub, error, wait)
            return
        self._announced, self._failures = feed, 0

    async def _notify(self) -> None:
        allow_private = _is_private(urlsplit(self._hub).hostname or "")
        for topic in self._topics:
            form = urlencode({"hub.mode": "publish", "hub.url": topic, "hub.topic": topic}).encode()
            status = await post(
                self._hub,
                _HEADERS,
                form,
                allow_private=allow_private,
                timeout_seconds=self._timeout_seconds,
            )
            if not 200 <= status < 300:
                raise PostError(f"responded with {status}")


def _is_private(host: str) -> bool:
    """Return whether a hub's address was configured as one of this network."""
    try:
        return not is_public(ipaddress.ip_address(host))
    except ValueError:
        return is_loopback(host)
