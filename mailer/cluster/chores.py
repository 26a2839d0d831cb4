"""Chores: the periodic work of a worker other than sending issues."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Chore:
    """Work that is safe to repeat."""

    name: str
    every_seconds: int
    do: Callable[[], object]
    stop: Callable[[], object] = lambda: None
    """Asks `do` to end soon."""
    priority: int = 0
    """Of chores that wait, the one with the highest number is done first."""

    @property
    def cron(self) -> str:
        """When it is due, as a cron expression; the sixth field is for seconds."""
        minutes, hours = self.every_seconds // 60, self.every_seconds // 3600
        if not minutes:
            return f"* * * * * */{self.every_seconds}"
        if not hours:
            return f"*/{minutes} * * * *"
        return f"0 */{hours} * * *" if hours < 24 else "0 0 * * *"
