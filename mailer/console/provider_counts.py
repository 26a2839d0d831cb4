"""The deliveries of issues by mailbox provider, counted once for all pages that show them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from mailer.console.by_provider import MOST
from mailer.console.pace import Pace
from mailer.reports.progress import ProviderBooks, largest

_EVERY_SECONDS: Final = 5.0
_REST: Final = 300
"""How much of the time is not spent counting: a sender loses little more than one part of it."""


@dataclass(frozen=True, slots=True)
class ProviderCount:
    """The largest providers of an issue, and all others as one without a name."""

    providers: Sequence[ProviderBooks]
    at: datetime
    next_at: datetime


class ProviderCounts:
    """The newest counts by issue. `count` reads every delivery of an issue."""

    def __init__(self, count: Callable[[int], Awaitable[Sequence[ProviderBooks]]]) -> None:
        self._count = count
        self._paces: dict[int, Pace] = {}
        self._newest: dict[int, ProviderCount] = {}
        # A count of a million deliveries takes tens of megabytes: never two at a time.
        self._counting = asyncio.Lock()

    async def newest(self, issue_id: int) -> ProviderCount:
        """Return the newest count of an issue; count first if it is time."""
        async with self._counting:
            pace = self._paces.setdefault(issue_id, Pace(_EVERY_SECONDS, _REST))
            if pace.due or issue_id not in self._newest:
                with pace.looking():
                    found = await self._count(issue_id)
                at = datetime.now().astimezone()
                following = at + timedelta(seconds=pace.seconds)
                self._newest[issue_id] = ProviderCount(largest(found, MOST, others=""), at, following)
            return self._newest[issue_id]
