"""What the delivery tests share with those of SMTP, and with each other."""

from __future__ import annotations

import pytest

from mailer.database.engine import Database
from tests.delivery.run_scene import Scene
from tests.smtp.conftest import each_loop

__all__ = ["each_loop", "scene"]


@pytest.fixture
def scene(database: Database) -> Scene:
    """A queued issue that can be run on a clock."""
    return Scene(database)
