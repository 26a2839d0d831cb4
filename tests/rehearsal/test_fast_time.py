"""Timers fire immediately, but real work still takes its time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from mailer.rehearsal import fast_time
from mailer.rehearsal.fast_time import FastLoop

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=FastLoop) as runner:
        return runner.run(work)


def test_sleepers_wake_in_their_order_and_time_has_passed() -> None:
    order: list[float] = []

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds)
        order.append(seconds)

    async def main() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.gather(*(sleep(seconds) for seconds in (86_400, 3, 0.01, 7_200)))
        return loop.time() - began

    assert run(main()) == pytest.approx(86_400, abs=5)
    assert order == [0.01, 3, 7_200, 86_400]


def test_timeout_strikes_what_takes_too_long() -> None:
    async def main() -> None:
        async with asyncio.timeout(600):
            await asyncio.sleep(601)

    with pytest.raises(TimeoutError):
        run(main())


def test_time_is_not_skipped_while_a_thread_works() -> None:
    def work() -> str:
        time.sleep(0.2)
        return "done"

    async def main() -> str:
        async with asyncio.timeout(60):
            return await asyncio.to_thread(work)

    assert run(main()) == "done"


@pytest.mark.parametrize(
    ("seconds_per_wait", "waits"), [([0.005], 1), ([0.3, 0.02, 0.006], 3), ([0.3] * 100, 40)]
)
def test_busy_machine_gets_more_time_before_a_long_skip(
    monkeypatch: pytest.MonkeyPatch, seconds_per_wait: list[float], waits: int
) -> None:
    ticks = iter([at for seconds in seconds_per_wait for at in (0.0, seconds)])
    monkeypatch.setattr(fast_time, "time", SimpleNamespace(monotonic=ticks.__next__))
    selector = fast_time._Selector()
    skipped: list[float] = []

    def skip(seconds: float) -> bool:
        skipped.append(seconds)
        return True

    selector.skip = skip
    assert selector.select(300) == []
    selector.close()
    assert skipped == [300]
    assert len(list(ticks)) == 2 * (len(seconds_per_wait) - waits)


def test_sockets_are_faster_than_the_clock() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            await asyncio.sleep(30)
            writer.write(line)
        writer.close()
        await writer.wait_closed()
        served.set()

    async def main() -> list[bytes]:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            heard = []
            for number in range(50):
                writer.write(b"%d\n" % number)
                async with asyncio.timeout(40):
                    heard.append(await reader.readline())
            writer.close()
            await writer.wait_closed()
            await served.wait()
            return heard

    served = asyncio.Event()
    assert run(main()) == [b"%d\n" % number for number in range(50)]


def test_closing_waits_for_a_thread_that_still_works() -> None:
    ended: list[str] = []

    def work() -> None:
        time.sleep(0.2)
        ended.append("work")

    async def main() -> None:
        asyncio.get_running_loop().run_in_executor(None, work)

    run(main())
    assert ended == ["work"]
