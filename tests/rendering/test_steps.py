"""The steps that the room's docstring lists exist under their names."""

from __future__ import annotations

import importlib
import re

import pytest

import mailer.rendering

STEPS = re.findall(r"^\d\. `([\w.]+)`", mailer.rendering.__doc__ or "", re.MULTILINE)


def test_there_are_six_steps() -> None:
    assert len(STEPS) == 6


@pytest.mark.parametrize("step", STEPS)
def test_step_exists(step: str) -> None:
    module, _, name = f"mailer.rendering.{step}".rpartition(".")
    assert callable(getattr(importlib.import_module(module), name))
