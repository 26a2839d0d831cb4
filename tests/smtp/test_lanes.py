from __future__ import annotations

import math

from mailer.config import ProviderLimits
from mailer.smtp.lanes import Item, Lanes


def lanes_with(items: list[Item], **providers: ProviderLimits) -> Lanes:
    lanes = Lanes(providers)
    for item in items:
        lanes.add(item)
    return lanes


def drain(lanes: Lanes, connection: int = 1, now: float = 0.0) -> list[int]:
    """Return the keys that may start on one connection, in order, if each finishes immediately."""
    keys = []
    while (lane := lanes.next_for(connection, now)) is not None:
        keys.append(lanes.start(lane, connection, now).key)
        lane.finish(connection)
    return keys


BIG = ProviderLimits(domains=("big.example", "big.example.net"), connections=2)


def test_domains_of_one_provider_share_a_lane() -> None:
    lanes = Lanes({"big": BIG})
    assert lanes.lane("big.example") is lanes.lane("big.example.net")
    assert lanes.lane("big.example") is not lanes.lane("other.example")
    assert lanes.domains_of([lanes.lane("big.example")]) == {"big.example", "big.example.net"}


def test_lanes_take_turns_and_keep_their_order() -> None:
    items = [Item(key, "big.example" if key < 3 else "other.example") for key in range(6)]
    assert drain(lanes_with(items, big=BIG)) == [0, 3, 1, 4, 2, 5]


def test_lane_is_used_by_no_more_connections_than_it_takes() -> None:
    lanes = lanes_with([Item(key, "big.example") for key in range(9)], big=BIG)
    lane = lanes.lane("big.example")
    for connection in (1, 2):
        assert lanes.next_for(connection, 0) is lane
        lanes.start(lane, connection, 0)
    assert lanes.next_for(3, 0) is None
    assert lanes.next_for(1, 0) is lane
    lane.finish(2)
    assert lanes.next_for(3, 0) is lane


def test_complaint_takes_connections_away() -> None:
    lanes = lanes_with([Item(key, "big.example") for key in range(9)], big=BIG)
    lane = lanes.lane("big.example")
    lane.pace.slow_down(0)
    assert lanes.next_for(1, 60) is lane
    lanes.start(lane, 1, 60)
    assert lanes.next_for(2, 90) is None


def test_spent_lane_is_passed_over() -> None:
    lanes = lanes_with([Item(1, "big.example"), Item(2, "other.example")], big=BIG)
    big = lanes.lane("big.example")
    for _ in range(3):
        assert lanes.next_for(1, 0, spent=[big]) is lanes.lane("other.example")


def test_paused_lane_says_how_long() -> None:
    lanes = lanes_with([Item(1, "big.example"), Item(2, "other.example")], big=BIG)
    assert lanes.delay(0) == math.inf
    lanes.lane("big.example").pace.hold(0, 30)
    assert lanes.delay(10) == 20
    assert drain(lanes) == [2]


def test_domain_that_complained_gets_a_lane_of_its_own_with_what_waits() -> None:
    lanes = lanes_with([Item(1, "a.example"), Item(2, "b.example"), Item(3, "a.example")])
    own = lanes.own_lane("a.example")
    own.pace.hold(0, 10)
    assert drain(lanes) == [2]
    assert drain(lanes, now=10) == [1, 3]
    assert lanes.own_lane("a.example") is own
    assert lanes.limited() == [own]


def test_item_that_comes_back_goes_first() -> None:
    lanes = lanes_with([Item(1, "a.example"), Item(2, "a.example")])
    lanes.add(Item(0, "a.example"), first=True)
    assert drain(lanes) == [0, 1, 2]


def test_returned_items_no_longer_wait() -> None:
    lanes = lanes_with([Item(key, "big.example") for key in range(5)] + [Item(9, "other.example")], big=BIG)
    assert [item.key for item in lanes.give_back(lanes.lane("big.example"), keep=3)] == [4, 3]
    assert lanes.waiting == 4
    assert {item.key for item in lanes.give_back_all()} == {0, 1, 2, 9}
    assert lanes.waiting == 0
    assert drain(lanes) == []


def test_lane_that_was_empty_takes_its_turn_again() -> None:
    lanes = lanes_with([Item(1, "a.example")])
    assert drain(lanes) == [1]
    lanes.add(Item(2, "a.example"))
    lanes.add(Item(3, "a.example"))
    assert drain(lanes) == [2, 3]
