"""A server of asyncio's in a thread of its own, ended without leaving a socket or a task behind."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator

Ready = Callable[[int], None]


@contextlib.contextmanager
def served(serve: Callable[[Ready], Coroutine[None, None, None]]) -> Iterator[int]:
    """Run what serves until cancelled and tells its port when it listens; give the port."""
    ports: list[int] = []
    listening = threading.Event()
    tasks: list[asyncio.Task[None]] = []

    def ready(port: int) -> None:
        ports.append(port)
        listening.set()

    async def whole() -> None:
        task = asyncio.ensure_future(serve(ready))
        tasks.append(task)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    def run() -> None:
        try:
            # A runner cancels the conversations that are still going on, and waits for them.
            asyncio.run(whole())
        finally:
            listening.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert listening.wait(30)
    assert ports, "the server ended before it listened"
    try:
        yield ports[0]
    finally:
        tasks[0].get_loop().call_soon_threadsafe(tasks[0].cancel)
        thread.join(30)
        assert not thread.is_alive()
