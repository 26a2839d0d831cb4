"""Relays bound to machines, and relays that warm up."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from mailer.config import Relay, Security, Settings, load
from mailer.config.warmup import Warmup
from mailer.delivery import dispatch
from mailer.delivery.relays import for_machine, last_day, limited, warming_up
from mailer.errors import ConfigError

START = date(2026, 12, 1)
PLAN = Warmup(start=START, first_day=200, growth=1.5)


def relay(*, machines: tuple[str, ...] = (), rate: float = 0.0, warmup: Warmup | None = None) -> Relay:
    return Relay(
        host="127.0.0.1",
        port=25,
        security=Security.PLAIN,
        rate_per_second=rate,
        machines=machines,
        warmup=warmup,
    )


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        (date(2026, 11, 20), 200),
        (START, 200),
        (date(2026, 12, 2), 300),
        (date(2026, 12, 4), 675),
        (date(2026, 12, 11), 11_533),
        (date(2027, 1, 3), None),
        (date(2999, 1, 1), None),
    ],
)
def test_warm_up_allows_more_every_day(day: date, expected: int | None) -> None:
    assert PLAN.allowed_on(day) == expected


def test_rate_of_a_warm_up_spreads_the_messages_over_the_day_within_the_usual_rate() -> None:
    assert limited(relay(warmup=PLAN), START).rate_per_second * 86_400 == pytest.approx(200)
    assert limited(relay(warmup=PLAN, rate=0.001), START).rate_per_second == 0.001
    assert limited(relay(warmup=PLAN, rate=5.0), date(2027, 6, 1)).rate_per_second == 5.0
    assert limited(relay(rate=5.0), START).rate_per_second == 5.0


def test_outlook_tells_what_may_leave_and_when_the_last_message_can() -> None:
    settings = Settings(relays={"new": relay(warmup=PLAN), "old": relay()})
    assert [str(one) for one in warming_up(settings, START)] == [
        "relay new is warming up: 200 messages today, 300 tomorrow"
    ]
    assert last_day(settings, 10_000, START) is None
    alone = Settings(relays={"new": relay(warmup=PLAN)})
    assert last_day(alone, 200, START) is None
    assert last_day(alone, 201, START) == date(2026, 12, 2)
    assert last_day(alone, 200 + 300 + 450 + 1, START) == date(2026, 12, 4)
    assert list(warming_up(alone, date(2027, 6, 1))) == []


def test_machine_uses_only_its_relays() -> None:
    settings = Settings(relays={"a": relay(machines=("a",)), "b": relay(machines=("b",)), "all": relay()})
    assert for_machine(settings, "a").relays.keys() == {"a", "all"}
    assert for_machine(settings, "c").relays.keys() == {"all"}


def test_machine_without_a_relay_is_refused_instead_of_using_the_outbox() -> None:
    settings = Settings(relays={"a": relay(machines=("a",))})
    with pytest.raises(ConfigError, match="no relay may be used by the machine 'b'"):
        for_machine(settings, "b")

    async def opened() -> None:
        async with dispatch.open_relays(settings):
            pass

    with pytest.raises(ConfigError, match="no relay may be used"):
        asyncio.run(opened())


def test_runs_keep_the_rate_of_today() -> None:
    settings = Settings(
        relays={"new": relay(warmup=Warmup(start=datetime.now(UTC).date(), first_day=864, growth=1.5))}
    )

    async def opened() -> float:
        async with dispatch.open_relays(settings) as relays:
            return relays["new"].relay.rate_per_second

    assert asyncio.run(opened()) in (pytest.approx(0.01), pytest.approx(0.015))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('start = "soon"\nfirst_day = 200', "start"),
        ('start = "2026-12-01"\nfirst_day = 0', "first_day"),
        ('start = "2026-12-01"\nfirst_day = 200\ngrowth = 1', "growth"),
        ("first_day = 200", "start"),
    ],
)
def test_mistake_in_a_warm_up_is_told_with_its_key(tmp_path: Path, lines: str, said: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f'[relays.new]\nhost = "mx.example.org"\n[relays.new.warmup]\n{lines}\n', "utf-8")
    with pytest.raises(ConfigError, match=said):
        load(path)


def test_warm_up_is_read_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    plan = '[relays.new.warmup]\nstart = "2026-12-01"\nfirst_day = 200\n'
    path.write_text(f'[relays.new]\nhost = "mx.example.org"\nmachines = ["a"]\n{plan}', "utf-8")
    new = load(path).relays["new"]
    assert (new.warmup, new.machines) == (PLAN, ("a",))
