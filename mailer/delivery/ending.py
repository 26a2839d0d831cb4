"""How a run of an issue ended, and why."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from mailer.delivery.books import Books
from mailer.errors import RelayError


class Ending(StrEnum):
    """Why a run ended."""

    FINISHED = "finished"
    """Nothing of the issue is open."""
    WAITING = "waiting"
    """Some deliveries wait for their next try, or are held."""
    PAUSED = "paused"
    CANCELLED = "cancelled"
    STOPPED = "stopped"
    """Stopped on request; messages under way were settled."""
    UNREACHABLE = "unreachable"
    """No relay could be used; unsent messages stay queued."""


class Ended(Struct, frozen=True):
    """How a run ended; `reason` says why, or is empty."""

    ending: Ending
    books: Books
    reason: str = ""
    error: RelayError | None = None
