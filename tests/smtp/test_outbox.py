"""The built-in outbox as a server."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
import uvloop

from mailer.smtp.outbox import Outbox


async def _left_alone(folder: Path, turns: int) -> tuple[str, int]:
    """Return the address of a server that has ended.

    Connect, let the server take some turns, and end it while the client still has its connection.
    """
    async with Outbox(folder) as outbox:
        relay = outbox.relay()
        with socket.create_connection((relay.host, relay.port)):
            for _ in range(turns):
                await asyncio.sleep(0)
    return relay.host, relay.port


@pytest.mark.parametrize("turns", range(6))
def test_server_that_ends_leaves_no_connection_open(tmp_path: Path, turns: int) -> None:
    # uvloop refuses to close a loop that has open transports, and says so.
    address = uvloop.run(_left_alone(tmp_path, turns))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
