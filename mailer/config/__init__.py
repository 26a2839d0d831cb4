"""`config.toml` and the `MAILER_…` environment, read into one frozen `Settings`."""

from mailer.config.loading import flatten, load, password
from mailer.config.sections import (
    Bounces,
    Brand,
    Delivery,
    DkimKey,
    Mailbox,
    Newsletter,
    Paths,
    Provider,
    Relay,
    Section,
    Security,
    Settings,
    Tracking,
    Web,
    Webhooks,
    is_loopback,
)

__all__ = [
    "Bounces",
    "Brand",
    "Delivery",
    "DkimKey",
    "Mailbox",
    "Newsletter",
    "Paths",
    "Provider",
    "Relay",
    "Section",
    "Security",
    "Settings",
    "Tracking",
    "Web",
    "Webhooks",
    "flatten",
    "is_loopback",
    "load",
    "password",
]
