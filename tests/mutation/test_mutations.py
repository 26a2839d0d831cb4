"""Every mutation is one real change that Python accepts."""

from __future__ import annotations

import ast

from tests.mutation.__main__ import PROJECT, ROOMS, accepted
from tests.mutation.mutations import mutations

SOURCE = """
def due(session, now, limit=3):
    '''Return 1 or 2.'''
    session.flush()
    if now > limit and not session.paused:
        raise ValueError("late", remedy="wait")
    return session.get(Row, with_lock=True).with_for_update()
"""


def test_each_kind_of_change_is_made_once() -> None:
    assert [one.name for one in mutations(SOURCE)] == [
        "3 -> 4",
        "session.flush() -> (nothing)",
        "now > limit and (not session.paused) -> now > limit or not session.paused",
        "now > limit -> now >= limit",
        "not session.paused -> session.paused",
        "raise ValueError('late', remedy='wait') -> (nothing)",
        "session.get(Row, with_lock=True).with_for_update() -> session.get(Row, with_lock=True)",
        "session.get(Row, with_lock=True) -> session.get(Row)",
        "True -> False",
    ]


def test_every_mutation_parses_and_differs() -> None:
    source = (PROJECT / "mailer" / "tokens.py").read_text(encoding="utf-8")
    original = ast.unparse(ast.parse(source))
    found = [one.source() for one in mutations(source)]
    assert len(found) > 30
    for one in found:
        ast.parse(one)
        assert one != original


def test_accepted_mutations_exist() -> None:
    found = accepted(PROJECT)
    made = {
        (module, one.name, one.line)
        for module in {module for module, _, _ in found}
        for one in mutations((PROJECT / module).read_text(encoding="utf-8"))
    }
    assert {pair[:2] for pair in found} - {pair[:2] for pair in found & made} == set()


def test_critical_modules_exist() -> None:
    assert [module for module in ROOMS if not (PROJECT / module).is_file()] == []
