"""A TCP proxy that delays each direction and limits nothing: `python -m benchmarks._proxy PORT SECONDS`.

It prints the port it listens on, and sends what arrives there to PORT, each octet SECONDS later.
"""

from __future__ import annotations

import asyncio
import sys
from selectors import SelectSelector


class _End(asyncio.Protocol):
    """One side of a connection; what it reads is written to `other` after the delay."""

    def __init__(self, delay_seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._delay_seconds = delay_seconds
        self._other: asyncio.Transport | None = None
        self._early: list[bytes] = []
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def join(self, other: asyncio.Transport) -> None:
        """Let what was read, and what will be, go to `other`."""
        self._other = other
        for data in self._early:
            self.data_received(data)

    def data_received(self, data: bytes) -> None:
        if self._other is None:
            self._early.append(data)
        else:
            self._loop.call_later(self._delay_seconds, self._other.write, data)

    def eof_received(self) -> bool:
        if self._other is not None and self._other.can_write_eof():
            self._loop.call_later(self._delay_seconds, self._other.write_eof)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if self._other is not None:
            self._loop.call_later(self._delay_seconds, self._other.close)


class _Near(_End):
    """The side that was called; it calls the other."""

    def __init__(self, upstream_port: int, delay_seconds: float) -> None:
        super().__init__(delay_seconds)
        self._upstream_port = upstream_port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._calling = self._loop.create_task(self._call())

    async def _call(self) -> None:
        far, far_end = await self._loop.create_connection(
            lambda: _End(self._delay_seconds), "127.0.0.1", self._upstream_port
        )
        far_end.join(self.transport)
        self.join(far)


async def main(upstream_port: int, delay_seconds: float) -> None:
    """Serve until the process is ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Near(upstream_port, delay_seconds), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    # epoll would round each wait up to whole milliseconds, twice a round trip; select counts microseconds.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(SelectSelector())) as runner:
        runner.run(main(int(sys.argv[1]), float(sys.argv[2])))
