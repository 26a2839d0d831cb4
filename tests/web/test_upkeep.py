"""Daily work runs immediately and then daily, stops with the server, and never stops the pages."""

from __future__ import annotations

import threading

import pytest

from mailer.errors import StorageError
from mailer.web.upkeep import daily


def test_work_runs_immediately_and_again_after_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    times: list[int] = []
    thrice = threading.Event()

    def work() -> None:
        times.append(1)
        if len(times) == 3:
            thrice.set()
        if len(times) == 1:
            raise StorageError("the disk is full")

    with daily(work, every_seconds=0.001):
        assert thrice.wait(30)
    done = len(times)
    assert "the disk is full" in caplog.text
    assert done >= 3
    assert not [thread for thread in threading.enumerate() if thread.name == "mailer-upkeep"]
