"""Charts of characters for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

_EIGHTHS: Final = " ▏▎▍▌▋▊▉"
_HEIGHTS: Final = "▁▂▃▄▅▆▇█"


def sparkline(numbers: Sequence[float]) -> str:
    """Return one character for each number, its height in proportion to the range of the numbers."""
    lowest, highest = min(numbers, default=0), max(numbers, default=0)
    if lowest == highest:
        return _HEIGHTS[0] * len(numbers)
    steps = len(_HEIGHTS) - 1
    return "".join(_HEIGHTS[round((number - lowest) / (highest - lowest) * steps)] for number in numbers)


def bars(rows: Iterable[tuple[str, int, str]], *, width: int = 28, names: int = 24) -> Iterator[str]:
    """Yield a line for each row of name, number and note, with a bar in proportion to the number.

    The longest bar has `width` characters; names take `names` at most.
    """
    drawn = list(rows)
    largest = max((number for _, number, _ in drawn), default=0)
    for name, number, note in drawn:
        shown = name if len(name) <= names else name[: names - 1] + "…"
        line = f"  {shown:<{names}}  {_bar(number, largest, width):<{width}}  {number:>9,}  {note}"
        yield line.rstrip()


def _bar(number: int, largest: int, width: int) -> str:
    """Return a bar in eighths of a character, at least one for a number above zero."""
    eighths = max(1, number * width * 8 // largest) if number else 0
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
