"""Commands import no heavy library that they don't use: imports are most of what a command costs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from mailer.database.engine import Database
from tests.delivery.scene import EDITION, queued, run
from tests.end_to_end.newsletter import Folder

_SENDING = {"aiosmtplib", "cryptography", "uvloop"}
_RENDERING = {"lxml", "markdown_it", "mjml", "nh3", "premailer"}
_TEMPLATES = {"babel", "jinja2"}
_SERVING = {"fastapi", "nicegui", "pydantic", "starlette", "uvicorn"}
_OTHERS = {"alembic", "dns", "httpx", "lark", "psycopg", "requests", "rich"}
_ALL = _SENDING | _RENDERING | _TEMPLATES | _SERVING | _OTHERS
_WITHOUT_DATABASE = {
    "--help": _ALL,
    "--version": _ALL,
    "config show": _ALL,
    "config check": {"aiosmtplib", "uvloop", "nicegui"} | _OTHERS,
    "lint 1": _SENDING | _SERVING | _OTHERS,
}
"""Each command, and what it doesn't import besides SQLAlchemy."""
_COMMANDS = {
    "status": _ALL,
    "status 1": _ALL,
    "why s1@example.org": _ALL,
    "stats": _ALL - {"rich"},
    "subscribers list": _ALL,
    "workers": _ALL,
    "schedule list": _ALL,
    "tokens list": _ALL,
    "webhooks list": _ALL,
    "users list": _ALL,
    "db check": _ALL,
    "plan 1": _ALL - _TEMPLATES,
    "render 1": _SERVING | _OTHERS,
}
# Runs each command in a process of its own, forked after what they all import has been imported once.
_PROGRAM = """
import importlib, json, os, sys
for line, common in json.loads(sys.argv[1]):
    importlib.import_module(common)
    if os.fork():
        os.wait()
        continue
    answer = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    from mailer.cli import run
    code = run([*line.split(), "-C", sys.argv[2]])
    names = sorted({name.partition(".")[0] for name in sys.modules})
    os.write(answer, (json.dumps([line, code, names]) + "\\n").encode())
    break
"""


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, set[str]]]:
    """Return the exit code of each command, and the packages that it imported."""
    folder = Folder(tmp_path_factory.mktemp("imports") / "news")
    source = folder.path / "issues" / "001-short.md"
    source.rename(source.with_stem(EDITION.slug))
    with Database("sqlite:///subscribers.db", folder=folder.path) as database:
        database.open()
        run(database, queued(database, 3), folder.path / "box")
    lines = [(line, "mailer.cli") for line in _WITHOUT_DATABASE]
    lines += [(line, "mailer.database.engine") for line in _COMMANDS]
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, json.dumps(lines), str(folder.path)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=240,
    )
    found = map(json.loads, done.stdout.splitlines())
    return {line: (code, set(names)) for line, code, names in found}


@pytest.mark.parametrize(
    ("line", "unused"),
    [*((line, names | {"sqlalchemy"}) for line, names in _WITHOUT_DATABASE.items()), *_COMMANDS.items()],
)
def test_command_imports_only_what_it_uses(
    imported: dict[str, tuple[int, set[str]]], line: str, unused: set[str]
) -> None:
    code, names = imported[line]
    assert (0, set()) == (code, names & unused)
