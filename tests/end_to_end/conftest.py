"""Servers that several of these tests need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.recorder import Recorder


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """An SMTP server that takes every message."""
    with Recorder() as made:
        yield made
