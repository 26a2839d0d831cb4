"""What the SMTP tests share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import uvloop

from tests.smtp.scripted import chosen


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def each_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let `run_async` use asyncio's own loop, then uvloop: what holds for one holds for the other."""
    before, chosen[0] = chosen[0], request.param
    yield
    chosen[0] = before
