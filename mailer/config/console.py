"""The table of config.toml about the operator's console."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from mailer.config.values import Check, Port, Section, at_least, checked_root_url


class Console(Section, frozen=True, kw_only=True):
    """`[console]`: the operator's console, which `mailer console` opens."""

    CHECKS: ClassVar[dict[str, Check]] = {
        "public_url": lambda url: checked_root_url(url) if url else url,
        "session": at_least(timedelta(minutes=5)),
    }

    public_url: str = ""
    """The https address under which your reverse proxy serves the console to several people. They log in
    with a password and a one-time code: see `mailer users`. If empty, only this machine is served, and
    `mailer console` prints a link that logs you in."""
    port: Port = 8602
    """The port that `mailer console` listens on, on this machine only."""
    session: timedelta = timedelta(hours=12)
    """How long people stay logged in."""
    approval: bool = False
    """Whether a second person must approve before an issue is sent, scheduled or amended in the console.
    Commands and API tokens need no approval."""
