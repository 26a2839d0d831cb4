"""`mailer init`: create a newsletter's folder."""

from __future__ import annotations

import json
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import click

from mailer.cli import deploying
from mailer.cli.app import App, Command, pass_app, yes_option
from mailer.config import Newsletter, Section, Web, load, value_problem
from mailer.config.shipped import shipped
from mailer.errors import RefusedError
from mailer.rendering.source.new import slug
from mailer.review.template_changes import ORIGIN, keep_origin

_CONFIG = """\
# The settings of your newsletter. `mailer config show` prints all values and where they come from.

[newsletter]
name = {name}
author_name = {author_name}
author_address = {author_address}
postal_address = {postal_address}   # required in every issue (CAN-SPAM)
list_id = {list_id}   # RFC 2919; never change it: readers' filters depend on it

[web]
public_url = {public_url}   # the address of `mailer serve`; https once it is public

# Without a relay, messages go to an outbox on this machine, which `mailer outbox` shows.
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
*.jsonl
*.ods
*.xls
*.xlsx
*password*
/outbox/
/rendered/
/deploy/.env
"""


@click.command(cls=Command)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option("--name", help="The newsletter's name.")
@click.option("--author", help="The author's name, shown in From:.")
@click.option("--address", help="The address in From:.")
@click.option("--postal-address", help="Your postal address, shown in every footer; many laws require it.")
@click.option("--url", help="The public address of your web pages.")
@click.option(
    "--with",
    "kind",
    type=click.Choice(["systemd", "compose"]),
    help="Also write files that run it as services, to the folder deploy.",
)
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
    kind: deploying.Kind | None,
    yes: bool,
) -> None:
    """Create a newsletter in FOLDER: config.toml, templates and a first issue.

    FOLDER is the current folder by default. On a terminal, the command asks for missing values;
    otherwise, and with --yes, it uses defaults. It never overwrites files: if one exists, it writes
    nothing and exits with code 5. In an existing newsletter, --with writes only its own files.
    """
    if kind is not None and (folder / "config.toml").exists():
        _deploy(app, kind, folder, load(folder / "config.toml").web.public_url)
        return
    made = [folder / part for part in ("config.toml", "email_templates", "issues", ".gitignore")]
    wanted = [*made[:3], *([folder / "deploy"] if kind else [])]
    if there := [str(path) for path in wanted if path.exists()]:
        raise RefusedError(f"{', '.join(there)} already exists", remedy="name another folder")
    asks = sys.stdin.isatty() and not yes
    name = _asked(_NAME, name, "My newsletter", asks=asks)
    author = _asked(_AUTHOR, author, name, asks=asks)
    address = _asked(_ADDRESS, address, "newsletter@example.org", asks=asks)
    postal_address = _asked(_POSTAL_ADDRESS, postal_address, "", asks=asks)
    url = _asked(_URL, url, "http://127.0.0.1:8600", asks=asks)
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
    shutil.copytree(shipped("email_templates"), made[1])
    keep_origin(folder / ORIGIN, made[1])
    made[2].mkdir()
    issue = made[2] / "001-hello.md"
    issue.write_text(_ISSUE.format(date=datetime.now(UTC).date()), encoding="utf-8")
    if not made[3].exists():
        made[3].write_text(_IGNORED, encoding="utf-8")
    for path in (*made[:2], issue):
        app.out(str(path))
    if kind is not None:
        _deploy(app, kind, folder, url)
    here = "" if folder == Path() else f" -C {folder}"
    app.say(f"next: mailer preview 1{here}")
    app.say(f"      mailer subscribers import people.csv{here}")
    app.say(f"      mailer send 1{here}")


def _deploy(app: App, kind: deploying.Kind, folder: Path, url: str) -> None:
    for path in deploying.write(kind, folder, urlsplit(url).hostname or "letters.example.org"):
        app.out(str(path))
    for step in deploying.next_steps(kind, folder):
        app.say(f"next: {step}")


class _Question(NamedTuple):
    """A question, the option that answers it, and the setting that the answer becomes."""

    text: str
    option: str
    section: type[Section]
    key: str

    def checked(self, answer: str) -> str:
        """Return the answer without blanks around it; raise `BadParameter` if the setting can't be that."""
        answer = answer.strip()
        if problem := value_problem(self.section, self.key, answer):
            raise click.BadParameter(
                problem if repr(answer) in problem else f"{answer!r}: {problem}", param_hint=self.option
            )
        return answer


_NAME: Final = _Question("Newsletter name", "--name", Newsletter, "name")
_AUTHOR: Final = _Question("Author's name", "--author", Newsletter, "author_name")
_ADDRESS: Final = _Question("From address", "--address", Newsletter, "author_address")
_POSTAL_ADDRESS: Final = _Question(
    "Postal address for the footer", "--postal-address", Newsletter, "postal_address"
)
_URL: Final = _Question("Public address of your pages", "--url", Web, "public_url")


def _asked(question: _Question, given: str | None, default: str, *, asks: bool) -> str:
    """Return the value given by the option, the answer on the terminal, or the default.

    Asks again after an invalid answer; raises `BadParameter` for an invalid option.
    """
    if given is not None:
        return question.checked(given)
    if not asks:
        return default
    answer: str = click.prompt(
        question.text, default=default, show_default=bool(default), err=True, value_proc=question.checked
    )
    return answer
