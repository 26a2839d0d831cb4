"""Watch files and wake callers that wait for a change."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from watchfiles import Change, DefaultFilter, awatch

_log = logging.getLogger(__name__)


class FileWatcher:
    """Watches `folders` and everything in them, and `files`, if they exist at the start.

    A file is watched through its folder, because editors replace files rather than write into them.
    """

    def __init__(self, folders: Sequence[Path], files: Sequence[Path] = ()) -> None:
        self._folders = [folder for folder in folders if folder.is_dir()]
        self._files = {file.resolve() for file in files}
        self._begun = secrets.token_hex(4)
        self._number = 0
        self._stopped = False
        self._news = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def state(self) -> str:
        """A string that differs after each change and in each run."""
        return f"{self._begun}-{self._number}"

    async def after(self, state: str) -> str | None:
        """Wait until the state differs from `state` and return it; None once watching has stopped."""
        while self.state == state and not self._stopped:
            await self._news.wait()
        return None if self._stopped else self.state

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Watch while the block runs; its end releases all waiting callers."""
        self._loop = asyncio.get_running_loop()
        ended = anyio.Event()
        async with asyncio.TaskGroup() as tasks:
            if self._folders:
                tasks.create_task(self._watch(self._folders, None, ended))
            if self._files:
                tasks.create_task(self._watch(sorted({f.parent for f in self._files}), self._files, ended))
            try:
                yield
            finally:
                ended.set()
                self._let_go()

    def stop(self) -> None:
        """Release all waiting callers; any thread or signal handler may call this."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._let_go)

    async def _watch(self, folders: Sequence[Path], only: set[Path] | None, ended: anyio.Event) -> None:
        usual = DefaultFilter()

        def concerns(change: Change, path: str) -> bool:
            return usual(change, path) and (only is None or Path(path).resolve() in only)

        try:
            async for _ in awatch(
                *folders, watch_filter=concerns, recursive=only is None, stop_event=ended, debounce=200
            ):
                self._number += 1
                self._tell()
        except (OSError, RuntimeError) as error:
            # Usually this machine has too many watches: everything except reloading still works.
            _log.warning("changes cannot be watched, so reload the page by hand: %s", error)

    def _let_go(self) -> None:
        self._stopped = True
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
