"""The description of a delivery's path names functions that exist."""

from __future__ import annotations

import importlib
import re
from typing import Any

import pytest

import mailer.delivery

NAMES = re.findall(r"`((?:delivery|smtp|replies)(?:\.\w+)+)`", mailer.delivery.__doc__ or "")


def test_the_path_has_numbered_steps_that_name_functions() -> None:
    steps = re.findall(r"^(\d+)\. ", mailer.delivery.__doc__ or "", re.MULTILINE)
    assert steps == [str(number) for number in range(1, len(steps) + 1)]
    assert len(NAMES) >= 2 * len(steps)


@pytest.mark.parametrize("name", NAMES)
def test_name_in_the_path_exists(name: str) -> None:
    module, attributes = f"mailer.{name}", list[str]()
    while True:
        try:
            found: Any = importlib.import_module(module)
            break
        except ModuleNotFoundError:
            module, _, attribute = module.rpartition(".")
            attributes.insert(0, attribute)
    for attribute in attributes:
        found = getattr(found, attribute)
    assert callable(found)
