"""What a run does once nothing can be sent: it waits, takes over, or ends."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from mailer.config import DeliverySettings
from mailer.database.tables import DeliveryState
from mailer.delivery.ending import Ending
from mailer.delivery.queue import Taken
from tests.delivery.run_scene import SETTINGS, Scene, replace, void
from tests.delivery.scene import AT
from tests.smtp.clocked import clock, run_clocked


@pytest.mark.parametrize(
    ("ending", "held", "tripped", "ends", "expected", "asked"),
    [
        (None, False, True, False, True, True),
        (None, False, False, False, False, True),
        (None, True, True, False, False, False),
        (Ending.STOPPED, False, True, False, False, False),
        # The breaker has paused the issue: no other relay was left.
        (None, False, True, True, False, True),
    ],
)
def test_breaker_decides_once_nothing_is_on_hold(
    scene: Scene, ending: Ending | None, held: bool, tripped: bool, ends: bool, expected: bool, asked: bool
) -> None:
    async def go() -> None:
        sender = scene.sender()
        sender._ending = ending
        if held:
            sender._pool.hold("example.org", 5)
        calls: list[bool] = []

        def decide() -> bool:
            calls.append(True)
            if ends:
                sender._pause("our fault")
            return tripped

        sender._outcomes.tripped = decide  # type: ignore[method-assign]
        assert sender._relay_took_over() is expected
        assert bool(calls) is asked

    run_clocked(go())


WAITING = DeliverySettings(window=8, wait_for_retries=True)


@pytest.mark.parametrize(
    ("state", "expected", "seconds", "commits"),
    [
        ({"due": 5}, True, 5, 1),
        ({"due": 5, "settings": SETTINGS}, False, 0, 0),
        ({"due": 5, "ending": Ending.STOPPED}, False, 0, 0),
        ({"due": 5, "members_only": True}, False, 0, 1),
        ({"due": 5, "pending": 1}, True, 0, 1),
        ({"due": 5, "pending": 1, "held": 3}, True, 3, 1),
        ({"due": 5, "held": 3}, True, 3, 1),
        ({"due": 2, "held": 3}, True, 2, 1),
        ({"held": 3}, True, 3, 1),
        ({}, False, 0, 1),
        ({"due": 3600}, True, 60, 1),
        ({"due": -3600}, True, 0.05, 1),
        ({"due": 5, "stop": 2}, False, 2, 1),
    ],
)
def test_run_waits_for_its_retries(
    scene: Scene, state: dict[str, Any], expected: bool, seconds: float, commits: int
) -> None:
    async def go() -> None:
        sender = scene.sender(settings=state.get("settings", WAITING))
        written: list[int] = []
        asked: list[frozenset[str]] = []

        async def commit(count: int, except_domains: frozenset[str]) -> Taken:
            written.append(count)
            assert except_domains == frozenset()
            return Taken([], 0, 0, Counter())

        def next_due(except_domains: frozenset[str]) -> Any:
            asked.append(except_domains)
            return AT + timedelta(seconds=state["due"]) if "due" in state else None

        sender._books.commit, sender._books.next_due = commit, next_due  # type: ignore[method-assign]
        sender._books.members_only = state.get("members_only", False)
        replace(sender._outcomes._breaker, _pending=dict.fromkeys(range(state.get("pending", 0))))
        sender._ending = state.get("ending")
        if "held" in state:
            sender._pool.hold("example.org", state["held"])
        if "stop" in state:
            clock().call_later(state["stop"], sender._end_as, Ending.STOPPED)
        assert await sender._wait_for_retry() is expected
        assert scene.seconds() == pytest.approx(seconds)
        assert written == [0] * commits
        assert all(("example.org" in domains) is ("held" in state) for domains in asked)

    run_clocked(go())


@pytest.mark.parametrize(
    ("state", "expected", "seconds", "asked"),
    [
        ({"hold": True}, True, 1, 1),
        ({"hold": False}, False, 0, 1),
        ({"hold": True, "alone": True}, False, 0, 0),
        ({"hold": True, "held": 3}, False, 0, 0),
        ({"hold": True, "ending": Ending.STOPPED}, False, 0, 0),
        ({"hold": False, "uncertain": 2}, True, 0, 1),
        ({"hold": True, "uncertain": 2}, True, 1, 1),
        ({"hold": True, "stop": 0.5}, False, 0.5, 1),
    ],
)
def test_run_waits_for_the_others_of_its_issue(
    scene: Scene, state: dict[str, Any], expected: bool, seconds: float, asked: int
) -> None:
    async def go() -> None:
        sender = scene.sender(begun=None if "alone" in state else void)
        calls: list[bool] = []

        def others_hold_some() -> bool:
            calls.append(True)
            sender._books._counts[DeliveryState.UNCERTAIN.value] += state.get("uncertain", 0)
            return bool(state["hold"])

        sender._books.others_hold_some = others_hold_some  # type: ignore[method-assign]
        sender._ending = state.get("ending")
        if "held" in state:
            sender._pool.hold("example.org", state["held"])
        if "stop" in state:
            clock().call_later(state["stop"], sender._end_as, Ending.STOPPED)
        assert await sender._wait_for_others() is expected
        assert scene.seconds() == pytest.approx(seconds)
        assert len(calls) == asked

    run_clocked(go())


@pytest.mark.parametrize(
    ("ending", "reason", "tripped", "finished", "written", "ended"),
    [
        # How it ended so far and what the breaker says; then what is written, and how it ends.
        (None, "", "", True, ("", ""), (Ending.FINISHED, "")),
        (None, "", "", False, ("", ""), (Ending.WAITING, "")),
        (None, "", "all refuse", False, ("all refuse", ""), (Ending.PAUSED, "all refuse")),
        (Ending.PAUSED, "why", "", False, ("why", ""), (Ending.PAUSED, "why")),
        (Ending.UNREACHABLE, "down", "", False, ("", "down"), (Ending.UNREACHABLE, "down")),
        (Ending.STOPPED, "", "", False, ("", ""), (Ending.STOPPED, "")),
        (Ending.CANCELLED, "", "", True, ("", ""), (Ending.CANCELLED, "")),
    ],
)
def test_end_of_a_run_is_written(
    scene: Scene,
    ending: Ending | None,
    reason: str,
    tripped: str,
    finished: bool,
    written: tuple[str, str],
    ended: tuple[Ending, str],
) -> None:
    async def go() -> None:
        sender = scene.sender()
        judged: list[bool] = []
        ends: list[tuple[str, str]] = []

        def close(*, judging: bool) -> str:
            judged.append(judging)
            return tripped

        def end(pause_reason: str, reason: str = "") -> bool:
            ends.append((pause_reason, reason))
            return finished

        sender._outcomes.close, sender._books.end = close, end  # type: ignore[method-assign]
        sender._ending, sender._reason = ending, reason
        sender._end()
        # A run that was cut short cannot tell whose fault the refusals are.
        assert (judged, ends) == ([ending is None], [written])
        assert (sender._ending, sender._reason) == ended

    run_clocked(go())
