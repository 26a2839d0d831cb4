"""The tables of config.toml about the operator's console."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from mailer.config.values import (
    Check,
    HttpUrl,
    Port,
    Secret,
    Section,
    at_least,
    checked_header_text,
    checked_root_url,
    is_loopback,
)


class Oidc(Section, frozen=True, kw_only=True):
    """`[console.oidc]`: log in through your OpenID Connect provider.

    Register the console there as a web application with the redirect address
    `https://console.example.org/login/oidc/callback`.
    """

    CHECKS: ClassVar[dict[str, Check]] = {
        "issuer": lambda url: _checked_issuer(url),
        "client_id": checked_header_text,
        "name": checked_header_text,
    }

    issuer: HttpUrl
    """The provider's address, as its tokens name it; below it is `/.well-known/openid-configuration`."""
    client_id: str
    """The name under which the provider knows the console."""
    client_secret: Secret | None = None
    """Better in the environment than in this file. Give exactly one of the three."""
    client_secret_file: Path | None = None
    """A file that contains the secret."""
    client_secret_command: str | None = None
    """A command that prints the secret."""
    name: str = "single sign-on"
    """The text of the button on the login page, after "Log in with"."""

    def __post_init__(self) -> None:
        """Check the combination of keys; raise `ValueError`."""
        Section.__post_init__(self)
        given = (self.client_secret, self.client_secret_file, self.client_secret_command)
        if sum(source is not None for source in given) != 1:
            raise ValueError("give one of client_secret, client_secret_file and client_secret_command")


def _checked_issuer(url: str) -> str:
    if not url.startswith("https:") and not is_loopback(urlsplit(url).hostname or ""):
        raise ValueError("it must begin with https://")
    return url


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
    oidc: Oidc | None = None
    """Log in through your OpenID Connect provider; see below."""
