"""Programs and files that a test needs and a machine may lack."""

from __future__ import annotations

import os
import shutil

import pytest


def missing(what: str) -> None:
    """Skip a test whose means are not on this machine; under CI that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing, and CI must have it")
    pytest.skip(f"{what} is not here")


def program(*names: str) -> str:
    """Return the path of the first of these programs that is installed, or skip the test."""
    for name in names:
        found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
        if found:
            return found
    missing(names[0])
    raise AssertionError
