"""`mailer dkim`: create signing keys."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import click

from mailer.address import parse_domain
from mailer.cli.app import App, Group, pass_app
from mailer.errors import RefusedError, SourceError
from mailer.smtp.dkim import dns_record, generate_key, load_key


@click.group(cls=Group)
def dkim() -> None:
    """Create DKIM keys and print their DNS records."""


@dkim.command()
@click.argument("domain")
@click.option("--selector", default="mailer", show_default=True, help="The key's name in the DNS.")
@click.option(
    "--type",
    "kind",
    type=click.Choice(["rsa", "ed25519"]),
    default="rsa",
    show_default=True,
    help="The kind of key. Some receivers don't check ed25519 signatures yet.",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The key file; dkim-DOMAIN.pem by default.",
)
@pass_app
def keygen(app: App, domain: str, selector: str, kind: Literal["rsa", "ed25519"], out: Path | None) -> None:
    """Create a key for DOMAIN and print its DNS record.

    Only your account can read the key file.
    """
    domain = parse_domain(domain)
    path = out or app.config_path.parent / f"dkim-{domain}.pem"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise RefusedError(
            f"{path} already exists; overwriting a published key would lose it",
            remedy="name another file with --out",
        ) from error
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(generate_key(kind))
    app.out(f"{selector}._domainkey.{domain}. IN TXT {_quoted(dns_record(load_key(path)))}")
    app.say(f"\nThe key is in {path}. Once the record is published, add to config.toml:\n")
    app.say(f'[[dkim]]\ndomain = "{domain}"\nselector = "{selector}"\nkey_file = "{path.name}"')


def _quoted(record: str) -> str:
    """Return a TXT record in strings of at most 255 octets (RFC 1035 section 3.3.14)."""
    return " ".join(f'"{record[start : start + 255]}"' for start in range(0, len(record), 255))
