"""What a stranger writes into a reply costs bounded time."""

from __future__ import annotations

import time

import pytest

from mailer.replies import judge

WORST = {
    "one word": "a" * 100_000,
    "blanks": "sender" + " " * 100_000 + "unknown",
    "senders": "sender address " * 10_000,
    "possessions": "your domain policy " * 10_000,
    "almost refused": "sender x x x x x " * 10_000,
    "opened brackets": "(sender " * 10_000,
    "nested brackets": "(" * 50_000 + ")" * 50_000,
    "addresses": "a@b.c " * 20_000,
    "at signs": "@" * 100_000,
    "colons": "1:" * 50_000,
    "dots": "1.1." * 30_000,
    "assignments": "sender=" * 15_000,
    "links": "https://a.b/?p=" * 8_000,
    "gaps": "account " * 15_000,
    "full stops": ". sender <a@b.c> " * 6_000,
    "foreign": "postfach adresse nicht " * 5_000,
}


@pytest.mark.parametrize("what", WORST)
def test_worst_replies_are_judged_quickly(what: str) -> None:
    judge(550, "5.1.1", "Postfach voll")
    started = time.process_time()
    judge(550, "5.1.1", WORST[what])
    assert time.process_time() - started < 0.25
