"""The tables of messages that are sent without a person: sequences."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from mailer.config.values import Check, Section, checked_trigger, checked_zone


class Sequence(Section, frozen=True, kw_only=True):
    """`[sequences.NAME]`: messages that each person gets one after the other.

    `mailer sequences apply` puts changes of these keys and of the files into effect.
    """

    CHECKS: ClassVar[dict[str, Check]] = {"trigger": checked_trigger, "zone": checked_zone}

    trigger: str = "confirmed"
    """Who enters: `confirmed`, those who confirm their sign-up; `tag:NAME`, those who get a tag;
    `date:ATTRIBUTE`, those whose date has come; `api`, only those that you add."""
    folder: Path = Path()
    """The folder of its steps; `sequences/NAME` by default."""
    goal: str = ""
    """A segment, such as `tag:customer`: people who match it get no further steps."""
    zone: str = ""
    """The time zone of subscribers without a `timezone` attribute; this machine's by default."""
