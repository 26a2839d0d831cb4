"""How long an issue takes to read."""

from __future__ import annotations


def reading_time(words: int, words_per_minute: int = 250) -> str:
    """Return the time to read `words`, as in `4 minutes, 18 seconds`; to the nearest second."""
    minutes, seconds = divmod(round(words * 60 / words_per_minute), 60)
    parts = []
    if minutes:
        parts.append(f"{minutes} minute{'' if minutes == 1 else 's'}")
    if seconds or not minutes:
        parts.append(f"{seconds} second{'' if seconds == 1 else 's'}")
    return ", ".join(parts)
