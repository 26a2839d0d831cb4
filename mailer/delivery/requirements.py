"""The settings that are required before mail may leave this machine."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from mailer.config import Settings, is_loopback
from mailer.errors import RefusedError


def check_ready(settings: Settings, *, test: bool = False) -> None:
    """Raise `RefusedError` if mail that leaves this machine would break a law or a receiver's rule.

    The links of a `test` lead nowhere, so it does not need the address of the pages.
    """
    for key, error in refusals(settings):
        if not (test and key == "web.public_url"):
            raise error


def refusals(settings: Settings) -> Iterator[tuple[str, RefusedError]]:
    """Yield each setting that keeps mail from leaving this machine, with its error."""
    if not settings.relays:
        return
    if not settings.newsletter.postal_address.strip():
        yield (
            "newsletter.postal_address",
            RefusedError(
                "newsletter.postal_address is empty: every issue must carry one (CAN-SPAM)",
                remedy="set postal_address in config.toml",
            ),
        )
    url = urlsplit(settings.web.public_url)
    if url.scheme != "https" or is_loopback(url.hostname or ""):
        yield (
            "web.public_url",
            RefusedError(
                f"web.public_url is {settings.web.public_url}: readers cannot unsubscribe there"
                " (RFC 8058 requires https)",
                remedy="set public_url in config.toml to the address of your pages",
            ),
        )
