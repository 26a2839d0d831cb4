"""Who is held by a run, and whether each may still be mailed when its turn comes."""

from datetime import UTC, datetime

import pytest

from mailer.delivery.queue import Claimed
from mailer.delivery.window import Window
from mailer.rendering.message import Recipient

AT = datetime(2026, 3, 4, 10, 0, tzinfo=UTC)


def claimed(number: int) -> Claimed:
    return Claimed(Recipient(number, f"s{number}@example.org", "", {}, ()), "example.org", 1, AT)


class People:
    """Who may be mailed, and how often anybody asked."""

    def __init__(self, *mailable: int) -> None:
        self.mailable = set(mailable)
        self.commits = 0
        self.looks = 0
        self.asked: list[int] = []
        self.leaving: set[int] = set()
        """Who opts out while the next look is being answered, too late for its answer."""

    def window(self, *numbers: int) -> Window:
        made = Window(lambda: self.commits, self.look)
        made.add(claimed(number) for number in numbers)
        return made

    def look(self, wanted: list[int]) -> set[int]:
        self.looks += 1
        self.asked = wanted
        found = self.mailable & set(wanted)
        if self.leaving:
            self.mailable -= self.leaving
            self.leaving = set()
            self.commits += 1
        return found


def test_one_look_covers_many_while_nobody_commits() -> None:
    people = People(*range(1, 51))
    window = people.window(*range(1, 51))
    assert [window.begin(number) is not None for number in range(1, 51)] == [True] * 50
    assert people.looks == 1


def test_one_look_is_about_so_many_and_begins_with_whose_turn_it_is() -> None:
    people = People(*range(1, 101))
    window = people.window(*range(1, 101))
    assert window.begin(90) is not None
    assert people.asked == [90, *range(1, 64)]


def test_opt_out_counts_from_its_commit_on() -> None:
    people = People(1, 2, 3)
    window = people.window(1, 2, 3)
    assert window.begin(1) == claimed(1)
    people.mailable.remove(2)
    people.commits += 1
    assert window.begin(2) is None
    assert window.begin(3) == claimed(3)
    assert len(window) == 2


def test_opt_out_committed_during_a_look_counts_from_the_next_turn_on() -> None:
    people = People(1, 2, 3)
    window = people.window(1, 2, 3)
    people.leaving = {2}
    assert window.begin(1) == claimed(1)
    assert window.begin(2) is None
    assert window.begin(3) == claimed(3)
    assert people.looks == 2


def test_delivery_whose_connection_broke_is_begun_again() -> None:
    people = People(1)
    window = people.window(1)
    assert window.begin(1) == claimed(1)
    assert window.begin(1) == claimed(1)
    assert len(window) == 1
    assert window.end(1) == claimed(1)
    assert len(window) == 0


def test_who_opts_out_between_two_tries_is_held_no_longer() -> None:
    people = People(1)
    window = people.window(1)
    window.begin(1)
    people.mailable.clear()
    people.commits += 1
    assert window.begin(1) is None
    assert len(window) == 0


def test_delivery_that_was_never_claimed_is_an_error() -> None:
    with pytest.raises(KeyError):
        People(1).window().begin(1)


def test_nobody_barred_is_begun_until_claimed_anew() -> None:
    # As on PostgreSQL, where the caller looks for opt-outs.
    window = Window(None, People().look)
    window.add(claimed(number) for number in (1, 2))
    assert window.begin(1) == claimed(1)
    window.bar([1, 2])
    assert (window.begin(1), window.begin(2)) == (None, None)
    window.add([claimed(2)])
    assert window.begin(2) == claimed(2)
