"""A delivery has its turn until it is settled, and nobody who opted out has one."""

from __future__ import annotations

from mailer.delivery.queue import Claimed
from mailer.delivery.window import Window
from mailer.rendering.message import Recipient
from tests.delivery.scene import AT


def claimed(number: int) -> Claimed:
    return Claimed(Recipient(number, f"s{number}@example.org"), "example.org", 1, AT)


def test_broken_connection_gives_a_delivery_another_turn() -> None:
    window = Window(lambda: 1, set)
    window.add([claimed(1), claimed(2)])
    assert window.begin(1) is window.begin(1)
    assert len(window) == 2
    assert window.end(1) == claimed(1)
    assert len(window) == 1


def test_opt_out_between_two_turns_ends_it() -> None:
    stamp, mailable = [1], {1, 2}
    window = Window(lambda: stamp[0], lambda some: mailable & set(some))
    window.add([claimed(1), claimed(2)])
    assert window.begin(1) == claimed(1)
    stamp[0], mailable = 2, {2}
    assert window.begin(1) is None
    assert len(window) == 1
