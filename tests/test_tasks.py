"""A task repeats its step whatever the step raises, and its health shows since when it fails."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from mailer.errors import StorageError
from mailer.tasks import LONG, Health, Tasks, Watch, retry_pause


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.002)


@pytest.mark.parametrize(
    "error",
    [
        StorageError("the disk is full"),
        ValueError("unexpected"),
        SystemExit(1),
        asyncio.CancelledError(),
        KeyboardInterrupt(),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_step_runs_immediately_and_again_after_any_error(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    times, failing = 0, threading.Event()
    failing.set()

    def step() -> None:
        nonlocal times
        times += 1
        if failing.is_set():
            raise error

    tasks = Tasks()
    with tasks.running("counting", step, every_seconds=0.001):
        wait_until(lambda: times >= 3)
        (found,) = tasks.health()
        assert (found.name, found.failing_since is not None) == ("counting", True)
        failing.clear()
        wait_until(lambda: tasks.health() == [Health("counting")])
    said = [record.message for record in caplog.records]
    # The same error is logged once.
    assert (len(said), said[0][:10], said[1]) == (2, "counting: ", "counting: works again")
    assert not [thread for thread in threading.enumerate() if thread.name == "mailer-counting"]


def test_task_is_woken_before_its_time_and_ends_within_a_pause() -> None:
    done = threading.Event()
    task = Tasks().start("waiting", done.set, every_seconds=3600)
    assert done.wait(30)
    done.clear()
    task.wake()
    assert done.wait(30)
    began = time.monotonic()
    task.close()
    assert time.monotonic() - began < 5


def test_closing_asks_a_long_step_to_end() -> None:
    ended = threading.Event()
    with Tasks().running("long", ended.wait, every_seconds=1, stop=ended.set):
        pass
    assert ended.is_set()


def test_pause_doubles_up_to_a_minute() -> None:
    assert [retry_pause(n) for n in (1, 2, 3, 6, 7, 8, 10_000)] == [1, 2, 4, 32, 60, 60, 60]


def test_task_fails_for_long_after_fifteen_minutes_from_its_first_failure() -> None:
    watch = Watch("letters")
    watch.failed(StorageError("away"))
    since = watch.health.failing_since
    assert since is not None
    watch.failed(StorageError("still away"))
    assert watch.health.failing_since == since
    assert not watch.health.failing_for_long(since + LONG - timedelta(seconds=1))
    assert watch.health.failing_for_long(since + LONG)
    watch.succeeded()
    assert not watch.health.failing_for_long(since + 2 * LONG)


def test_failure_of_shared_work_is_forgotten_when_others_may_have_done_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ticks = 0.0
    monkeypatch.setattr("mailer.tasks.time.monotonic", lambda: ticks)
    watch = Watch("bounces", forget_seconds=100)
    watch.failed(StorageError("away"))
    ticks = 100.0
    assert watch.health.failing_since is not None
    ticks = 101.0
    assert watch.health == Health("bounces")
