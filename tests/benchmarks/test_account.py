"""The account of a message adds its time up by functions that exist."""

import ast
from pathlib import Path

import pytest

from benchmarks.account import PARTS

_ROOT = Path(__file__).parents[2]
_PLACES = sorted({place for _, places in PARTS for place in places if place.startswith("mailer/")})


@pytest.mark.parametrize("place", _PLACES)
def test_place_exists(place: str) -> None:
    path, _, function = place.partition(":")
    assert (_ROOT / path).exists()
    if function:
        tree = ast.parse((_ROOT / path).read_text(encoding="utf-8"))
        names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert function in names
