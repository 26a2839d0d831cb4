"""A change is tried with the tests that reach it, and noticed only by what fails because of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutation.mutations import Mutation
from tests.mutation.reach import Reach
from tests.mutation.trial import Job, Place

TESTS = """
import pathlib, time
from shop import price

def test_right():
    assert price(2) == 6

def test_slow():
    while price(0):
        time.sleep(0.01)

def test_once(runs=pathlib.Path("{runs}")):
    runs.touch()
    runs.write_text(runs.read_text() + ".")
    assert runs.read_text() != "."
"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "shop.py").write_text("def price(number):\n    return 3 * number\n")
    (tree / "test_shop.py").write_text(TESTS.format(runs=tmp_path / "runs"))
    return Place(tree, tmp_path / "own")


@pytest.mark.parametrize(
    ("source", "test", "result"),
    [
        ("def price(number):\n    return 4 * number\n", "test_right", "killed"),
        ("def price(number):\n    return number * 3\n", "test_right", "survived"),
        ("def price(number):\n    return 3 * number + 1\n", "test_slow", "timeout"),
        ("def price(number)\n", "test_right", "killed"),
        ("import os; os._exit(3)\n", "test_right", "killed"),
        # This fails the first time, whatever the change.
        ("def price(number):\n    return 4 * number\n", "test_once", "survived"),
    ],
    ids=["wrong", "same", "hangs", "broken", "crashes", "flaky"],
)
def test_change_is_noticed_by_what_fails_because_of_it(
    place: Place, source: str, test: str, result: str
) -> None:
    job = Job("shop.py", "a change", source, {}, {f"test_shop.py::{test}": 3.0})
    assert place.result(job).result == result


def test_near_and_short_tests_are_chosen() -> None:
    near, far = "tests/a/test_shop.py", "tests/a/test_other.py"
    seconds = {f"{near}::a": 30.0, f"{near}::b": 9.0, f"{far}::c": 8.0, f"{far}::d": 7.0, f"{far}::e": 1.0}
    reached = [test for test in seconds if not test.endswith("::e")]
    reach = Reach(seconds, {"shop.py": {2: reached}})
    change = Mutation(2, 2, "", "", str)
    assert reach.selected("shop.py", change, 20) == ([f"{near}::b"], [f"{far}::d"])
    assert reach.selected("shop.py", change, 60) == ([f"{near}::b"], [f"{far}::d", f"{far}::c"])
    # Nothing reaches the line: those that reach the module come first.
    assert reach.selected("shop.py", Mutation(9, 9, "", "", str), 100) == (
        [f"{near}::b", f"{near}::a"],
        [f"{far}::d", f"{far}::c", f"{far}::e"],
    )
