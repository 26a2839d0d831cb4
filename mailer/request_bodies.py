"""Limits on the body of a request: its size, and the time it takes to arrive."""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive


def bounded(receive: Receive, *, octets: int, seconds: float | None) -> Receive:
    """Return `receive` with limits: beyond them it raises 413 for the size, or 408 for the time."""
    deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
    taken, complete = 0, False

    async def receiving() -> Message:
        nonlocal taken, complete
        if complete:
            # After the body, `receive` only reports that the client has disconnected.
            return await receive()
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError as error:
            raise HTTPException(408, headers={"connection": "close"}) from error
        complete = not message.get("more_body", False)
        taken += len(message.get("body", b""))
        if taken > octets:
            raise HTTPException(413, headers={"connection": "close"})
        return message

    return receiving
