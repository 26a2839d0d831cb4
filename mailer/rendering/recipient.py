"""The reader of a message. This module imports no template engine: the queue needs only this much."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Struct


class Recipient(Struct, frozen=True):
    """One subscriber as templates see them. `email` is as `str(mailer.address.Address)` gives it."""

    subscriber_id: int
    email: str
    name: str = ""
    attributes: Mapping[str, object] = msgspec.field(default_factory=dict)
    tags: tuple[str, ...] = ()
