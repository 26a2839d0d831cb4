"""What the delivery tests share with those of SMTP."""

from __future__ import annotations

from tests.smtp.conftest import each_loop

__all__ = ["each_loop"]
