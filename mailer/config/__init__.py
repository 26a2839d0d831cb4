"""`config.toml` and the `MAILER_…` environment, read into one frozen `Settings`."""

from mailer.config.automatic import Digest, Sequence
from mailer.config.console import Console, Oidc
from mailer.config.loading import client_secret, flatten, load, password
from mailer.config.readers import ImportFile, Retention, SignUp, Tracking, Web
from mailer.config.sections import (
    Bounces,
    Brand,
    Canary,
    DeliverySettings,
    DkimKey,
    Mailbox,
    Newsletter,
    Paths,
    ProviderLimits,
    Relay,
    Security,
    Settings,
    Webhooks,
)
from mailer.config.toml_file import section, value_problem
from mailer.config.values import Secret, Section, Share, is_ip_address, is_loopback, parse_share

__all__ = [
    "Bounces",
    "Brand",
    "Canary",
    "Console",
    "DeliverySettings",
    "Digest",
    "DkimKey",
    "ImportFile",
    "Mailbox",
    "Newsletter",
    "Oidc",
    "Paths",
    "ProviderLimits",
    "Relay",
    "Retention",
    "Secret",
    "Section",
    "Security",
    "Sequence",
    "Settings",
    "Share",
    "SignUp",
    "Tracking",
    "Web",
    "Webhooks",
    "client_secret",
    "flatten",
    "is_ip_address",
    "is_loopback",
    "load",
    "parse_share",
    "password",
    "section",
    "value_problem",
]
