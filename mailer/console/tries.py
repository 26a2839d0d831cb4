"""How often somebody may try to log in."""

from __future__ import annotations

from typing import Final

from limits import RateLimitItemPerHour, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.requests import Request

TOO_MANY: Final = "Too many attempts. Wait a minute, then try again."
_PER_MINUTE: Final = RateLimitItemPerMinute(5)
_PER_HOUR: Final = RateLimitItemPerHour(30)


class Tries:
    """Counts the attempts of each client and for each name."""

    def __init__(self) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def may(self, key: str) -> bool:
        """Count an attempt; return whether it is within the limits."""
        return self._limiter.hit(_PER_MINUTE, key) and self._limiter.hit(_PER_HOUR, key)


def client_of(request: Request) -> str:
    """Return the key of the client that sent a request."""
    return f"client {request.client.host if request.client else ''}"
