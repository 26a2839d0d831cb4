"""A TCP proxy that delays each direction and limits nothing: `python -m benchmarks._proxy PORT SECONDS`.

It prints the port it listens on, and sends what arrives there to PORT, each octet SECONDS later.
"""

from __future__ import annotations

import asyncio
import sys


async def main(upstream_port: int, delay_seconds: float) -> None:
    """Serve until the process is ended."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", upstream_port)
        await asyncio.gather(
            _carry(reader, far_writer, delay_seconds), _carry(far_reader, writer, delay_seconds)
        )
        far_writer.close()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_seconds: float) -> None:
    """Copy until the end of the stream, which is passed on too."""
    loop = asyncio.get_running_loop()
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def deliver() -> None:
        while True:
            due, data = await under_way.get()
            await asyncio.sleep(due - loop.time())
            if not data:
                break
            writer.write(data)
        if writer.can_write_eof():
            writer.write_eof()

    delivering = asyncio.create_task(deliver())
    while True:
        try:
            data = await reader.read(1 << 18)
        except ConnectionError:
            data = b""  # A reset ends the stream for the other side as well.
        under_way.put_nowait((loop.time() + delay_seconds, data))
        if not data:
            break
    await delivering


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
