"""Books as lines and as a progress bar."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mailer.database.tables import DeliveryState
from mailer.delivery.books import Books

if TYPE_CHECKING:
    from rich.progress import Progress


def lines(books: Books) -> list[str]:
    """Return the books as aligned lines, and the sum that shows whether they balance."""
    shown = [f"  {'audience':<10}{books.audience:>10,}"]
    shown += [
        f"  {state.value:<10}{getattr(books, state.value):>10,}"
        for state in DeliveryState
        if getattr(books, state.value) or state is DeliveryState.SENT
    ]
    parts = " + ".join(f"{getattr(books, state.value):,}" for state in DeliveryState)
    verdict = "balances" if books.balanced else "DOES NOT BALANCE"
    return [*shown, f"  {books.audience:,} = {parts}: {verdict}"]


class Bar:
    """A progress bar on standard error: settled deliveries, the rate, and the time left."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._task = None if progress is None else progress.add_task("sending", total=None, rate="")
        self._began: tuple[float, int] | None = None

    def show(self, books: Books) -> None:
        """Move the bar to the state of the books."""
        if self._progress is None or self._task is None:
            return
        done = books.audience - books.open
        now = time.monotonic()
        self._began = self._began or (now, done)
        seconds = now - self._began[0]
        rate = f"{(done - self._began[1]) / seconds:,.0f}/s" if seconds > 0.5 else ""
        self._progress.update(self._task, completed=done, total=books.audience, rate=rate)


@contextmanager
def bar(*, wanted: bool) -> Iterator[Bar]:
    """Show a bar while the block runs, if wanted and standard error is a terminal."""
    if not wanted:
        yield Bar(None)
        return
    # Imported on use: it takes a while.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield Bar(None)
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
    ) as progress:
        yield Bar(progress)
