"""The tables for sequences and digests, which a worker makes and sends by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from mailer.config.values import Check, Section, WebUrl, checked_clock, checked_trigger, checked_zone


class Sequence(Section, frozen=True, kw_only=True):
    """`[sequences.NAME]`: a series of messages for each person.

    `mailer sequences apply` puts changes to these keys and to the files into effect.
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


class Digest(Section, frozen=True, kw_only=True):
    """`[digests.NAME]`: issues that a worker makes from what is new in a feed."""

    CHECKS: ClassVar[dict[str, Check]] = {"at": checked_clock, "zone": checked_zone}

    feed: WebUrl
    """The address of the feed: RSS, Atom or JSON Feed."""
    title: str
    """The title of each issue, and its subject."""
    days: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = ()
    """The days of the week; every day by default."""
    at: str = "08:00"
    """The time of day."""
    zone: str = ""
    """The time zone of `at`; this machine's by default."""
    items: Annotated[int, Meta(ge=1, le=100)] = 20
    """The most items in an issue; older ones are skipped."""
    send: bool = False
    """Whether the issue is sent; otherwise it is a draft for you to edit."""
    to: str = ""
    """Only these subscribers, as a segment; all by default."""
