"""Whatever servers do, what the pool says of each message is what the servers know of it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailer.address import Envelope
from mailer.config import ProviderLimits
from mailer.errors import RelayError
from mailer.smtp.pool import Item
from mailer.smtp.session import Attempt, Fate, Outgoing, Timeouts
from tests.smtp.scripted import CLOSE, EHLO, SILENCE, Script
from tests.smtp.test_pool import Queue, queue, run

pytestmark = pytest.mark.usefixtures("each_loop")

QUICK = Timeouts(greeting=0.2, mail=0.1, rcpt=0.1, data=0.1, block=0.1, final_dot=0.1, quit=0.05)
FAULTS = {
    "MAIL": [b"451 4.3.0 later\r\n", b"421 4.7.0 enough\r\n", b"250-ok\r\n250", CLOSE, SILENCE, b"x\r\n"],
    "RCPT": [b"550 5.1.1 unknown\r\n", b"450 4.2.1 slow\r\n", b"421 4.7.0 enough\r\n", CLOSE, SILENCE],
    "DATA": [b"451 4.3.0 later\r\n", b"250 what\r\n", b"421 4.7.0 enough\r\n", CLOSE, b"354 go\r\n250 x\r\n"],
    "BODY": [b"554 5.7.1 spam\r\n", b"451 4.7.1 grey\r\n", b"421 4.7.0 enough\r\n", CLOSE, SILENCE, b"y\r\n"],
    "EHLO": [b"421 4.7.0 busy\r\n", CLOSE],
}


class Numbered(Queue):
    """A queue whose messages carry their key."""

    def compose(self, key: int) -> Outgoing | None:
        envelope = Envelope("b@example.org", f"r{key}@{self.domains[key]}")
        return Outgoing(key, envelope, [b"Subject: %d\r\n\r\nhello\r\n" % key], wire_safe=True)


def faulty(chance: random.Random, often: float, *, pipelining: bool) -> Script:
    """Return a server that fails by chance, in any of the ways above."""

    def answer(verb: str, nth: int) -> bytes | None:
        return chance.choice(FAULTS[verb]) if verb in FAULTS and chance.random() < often else None

    ehlo = EHLO if pipelining else EHLO.replace(b"250-PIPELINING\r\n", b"")
    return Script(answer=answer, ehlo=ehlo)


@given(seed=st.integers(0, 2**32), often=st.sampled_from([0.01, 0.05, 0.2]), pipelining=st.booleans())
@settings(
    max_examples=6,
    deadline=None,
    # The fixture only chooses the loop, which is the same for all examples.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_outcomes_agree_with_what_the_servers_took(seed: int, often: float, pipelining: bool) -> None:
    chance = random.Random(seed)
    work = Numbered({key: chance.choice(["big.example", "b.example"]) for key in range(1, 61)})
    scripts = [faulty(chance, often, pipelining=pipelining) for _ in range(2)]
    providers = {"big": ProviderLimits(domains=("big.example",), connections=2, messages_per_connection=7)}
    gave_up = False
    try:
        run(work, scripts, providers=providers, window=20, patience_seconds=5, timeouts=QUICK)
    except RelayError:
        gave_up = True
    assert gave_up or len(work.outcomes) == 60
    # Claimed and given back is as if never claimed; all else is settled (`Queue` sees to once).
    assert work.claimed == set(work.outcomes)
    taken = Counter(
        int(body[9 : body.index(b"\r\n")]) for script in scripts for body in script.accepted if body
    )
    for key in work.domains:
        outcome = work.outcomes.get(key)
        if outcome is None or outcome.fate in (Fate.REFUSED, Fate.LOST):
            assert taken[key] == 0
        elif outcome.fate is Fate.ACCEPTED:
            assert taken[key] == 1
        else:
            assert taken[key] <= 1


class HeldOnTheWay(Queue):
    """A queue whose provider is held while a claim for it is on its way."""

    async def take(self, count: int, except_domains: frozenset[str]) -> Sequence[Item]:
        items = await super().take(count, except_domains)
        if len(self.claims) == 1:
            assert self.pool is not None
            self.pool.hold("big.example", 40)
        return items


def test_what_was_being_claimed_when_its_provider_was_held_goes_back() -> None:
    work = HeldOnTheWay(dict.fromkeys(range(1, 31), "big.example"))
    run(work, [Script()])
    assert work.pool is not None
    # It returned before the time was over, and holds nothing that others could not have.
    assert (list(work.pool.held()), work.claimed, work.outcomes) == (["big.example"], set(), {})


def test_what_was_lost_when_its_provider_was_held_goes_back() -> None:
    work = queue(2, "big.example")

    def hold(outcome: Attempt) -> None:
        if outcome.fate is Fate.REFUSED:
            assert work.pool is not None
            work.pool.hold("big.example", 40)

    def answer(verb: str, nth: int) -> bytes | None:
        if verb == "BODY":
            return b"550 5.7.1 your address is on our list\r\n" if nth == 1 else None
        # The provider blocks us: the other message breaks off before its body.
        return CLOSE if (verb, nth) == ("RCPT", 2) else None

    work.on_settle = hold
    run(work, [Script(answer=answer)], settings=[{"connections": 1}])
    assert work.pool is not None
    assert list(work.pool.held()) == ["big.example"]
    assert {key: outcome.fate for key, outcome in work.outcomes.items()} == {1: Fate.REFUSED}
    assert work.claimed == {1}
