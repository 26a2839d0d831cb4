"""A TCP proxy before PostgreSQL: it can stop forwarding, or lose the answer to a commit."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator

from tests.served import Ready, served


class Proxy:
    """Forwards to a port of this machine while `flowing` is set."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.flowing = threading.Event()
        self.flowing.set()
        self.answers_to_lose = 0
        """How many of the next commits reach the server without their answer reaching the client."""
        self.port = 0

    @contextlib.contextmanager
    def running(self) -> Iterator[Proxy]:
        """Listen on `port` for the duration of the block."""
        with served(self._serve) as self.port:
            yield self

    async def _serve(self, ready: Ready) -> None:
        async with await asyncio.start_server(self._accept, "127.0.0.1", 0) as server:
            ready(server.sockets[0].getsockname()[1])
            await server.serve_forever()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        try:
            await asyncio.wait(
                [
                    asyncio.create_task(self._forward(reader, back, from_client=True)),
                    asyncio.create_task(self._forward(there, writer, from_client=False)),
                ],
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            back.close()
            writer.close()

    async def _forward(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, from_client: bool
    ) -> None:
        # A connection that breaks on one side is closed on the other.
        with contextlib.suppress(OSError):
            while data := await source.read(65_536):
                await self._pause()
                target.write(data)
                await target.drain()
                if from_client and self.answers_to_lose and b"COMMIT" in data:
                    self.answers_to_lose -= 1
                    return

    async def _pause(self) -> None:
        while not self.flowing.is_set():  # noqa: ASYNC110 - another thread sets it
            await asyncio.sleep(0.02)
