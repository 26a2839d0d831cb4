"""`mailer init`: create a newsletter's folder."""

from __future__ import annotations

import json
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from mailer.cli.app import App, Command, pass_app, yes_option
from mailer.cli.new import slug
from mailer.config import load
from mailer.config.shipped import shipped
from mailer.errors import MailerError, RefusedError

_CONFIG = """\
# Made by `mailer init`. `mailer config show` says every value and where it comes from.

[newsletter]
name = {name}
author_name = {author_name}
author_address = {author_address}
postal_address = {postal_address}   # every issue must carry one (CAN-SPAM)
list_id = {list_id}   # RFC 2919: readers' filters go by it, so never change it

[web]
public_url = {public_url}   # where `mailer serve` is reached; https once it is public

# Until a relay is named, mail goes to the outbox on this machine: `mailer outbox` shows it.
# [relays.main]
# host = "smtp.example.org"
# port = 587
# security = "starttls"
# user = "newsletter"
# password_file = "relay-password"        # or MAILER_RELAYS__MAIN__PASSWORD
"""
_ISSUE = """\
---
title: "Hello"
preheader: "The first of many."
date: {date}
number: 1
---

Hello {{{{ subscriber.name | default("there") }}}},

This is the first issue. It is a file in `issues/`: front matter first, then Markdown, with Jinja for text
that differs between readers.

## What to do next

- Preview it while you write: `mailer preview 1`
- Check it for mistakes: `mailer lint 1`
- Send it to yourself: `mailer test 1 --to you@example.org`

It takes {{{{ reading_time }}}} to read.
"""
_IGNORED = """\
*.db
*.db-wal
*.db-shm
*.sending
*.pem
*.key
*.csv
*.xlsx
*password*
/outbox/
/rendered/
"""


@click.command(cls=Command)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option("--name", help="The newsletter's name.")
@click.option("--author", help="The author's name, shown in From:.")
@click.option("--address", help="The address in From:.")
@click.option("--postal-address", help="Your postal address, shown in every footer; many laws require it.")
@click.option("--url", help="The public address of your web pages.")
@yes_option
@pass_app
def init(
    app: App,
    folder: Path,
    name: str | None,
    author: str | None,
    address: str | None,
    postal_address: str | None,
    url: str | None,
    yes: bool,
) -> None:
    """Create a newsletter in FOLDER: config.toml, templates and a first issue.

    FOLDER is the current folder by default. On a terminal, the command asks for missing values;
    otherwise, and with --yes, it uses defaults. It never overwrites files: if one exists, it writes
    nothing and exits with code 5.
    """
    made = [folder / part for part in ("config.toml", "email_templates", "issues", ".gitignore")]
    if there := [str(path) for path in made[:3] if path.exists()]:
        raise RefusedError(f"{', '.join(there)} already exists", remedy="name another folder")
    asks = sys.stdin.isatty() and not yes
    name = _asked("Name of the newsletter", name, "My newsletter", asks=asks)
    author = _asked("Who writes it", author, name, asks=asks)
    address = _asked("Address it comes from", address, "newsletter@example.org", asks=asks)
    postal_address = _asked("Postal address for the footer", postal_address, "", asks=asks)
    url = _asked("Where readers will reach your pages", url, "http://127.0.0.1:8600", asks=asks)
    values = {
        "name": name,
        "author_name": author,
        "author_address": address,
        "postal_address": postal_address,
        "list_id": f"{slug(name)}.{address.rpartition('@')[2]}",
        "public_url": url,
    }
    folder.mkdir(parents=True, exist_ok=True)
    # A JSON string is a TOML basic string.
    quoted = {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}
    made[0].write_text(_CONFIG.format(**quoted), encoding="utf-8")
    try:
        load(made[0])
    except MailerError:
        # What was given is no setting; nothing is left behind, so that it can be tried again.
        made[0].unlink()
        raise
    shutil.copytree(shipped("email_templates"), made[1])
    made[2].mkdir()
    issue = made[2] / "001-hello.md"
    issue.write_text(_ISSUE.format(date=datetime.now(UTC).date()), encoding="utf-8")
    if not made[3].exists():
        made[3].write_text(_IGNORED, encoding="utf-8")
    for path in (*made[:2], issue):
        app.out(str(path))
    here = "" if folder == Path() else f" -C {folder}"
    app.say(f"next: mailer preview 1{here}")
    app.say(f"      mailer subscribers import people.csv{here}")
    app.say(f"      mailer send 1{here}")


def _asked(question: str, given: str | None, default: str, *, asks: bool) -> str:
    if given is not None or not asks:
        return default if given is None else given
    answer: str = click.prompt(question, default=default, show_default=bool(default), err=True)
    return answer.strip()
