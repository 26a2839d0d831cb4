"""A newsletter's folder, and the `mailer` command run in it as an operator runs it."""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.end_to_end.spawner import Command, Spawner

PROJECT = Path(__file__).parents[2]
ISSUE = """\
---
title: A short one
---

Hello {{ subscriber.name | default("there") }}, read [this](https://example.org/page).
"""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The object on standard output."""
        found: dict[str, Any] = json.loads(self.out)
        return found


_started: list[Command] = []


def end_started() -> None:
    """Kill the commands that still run, as after a test that failed."""
    while _started:
        process = _started.pop()
        process.kill()
        process.wait()
        process.close()


@functools.cache
def _spawner() -> Spawner:
    """Return what starts this test process's commands."""
    made = Spawner()
    atexit.register(made.close)
    return made


class Folder:
    """A folder with config.toml, templates and one issue, `001-short`."""

    def __init__(self, path: Path, config: str = "") -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        base = '[newsletter]\nauthor_address = "ana@example.org"\npostal_address = "1 Example Street"\n'
        (path / "config.toml").write_text(base + config, encoding="utf-8")
        shutil.copytree(PROJECT / "email_templates", path / "email_templates")
        (path / "issues").mkdir()
        (path / "issues" / "001-short.md").write_text(ISSUE, encoding="utf-8")

    def command(self, *arguments: str) -> list[str]:
        """Return the argument list of a command in this folder."""
        return [sys.executable, "-m", "mailer", *arguments, "-C", str(self.path)]

    def mailer(self, *arguments: str, **environment: str) -> Ran:
        """Run a command to its end, in a process of its own."""
        with tempfile.TemporaryDirectory() as scratch:
            out, err = Path(scratch, "out"), Path(scratch, "err")
            spawner = _spawner()
            spawner.start(
                *arguments,
                "-C",
                str(self.path),
                environment={**os.environ, **environment},
                out=str(out),
                err=str(err),
            )
            code = spawner.wait()
            return Ran(code, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8"))

    def start(self, *arguments: str) -> Command:
        """Start a command and return while it runs, until the test ends at the latest."""
        process = _spawner().run(*arguments, "-C", str(self.path))
        _started.append(process)
        return process

    def subscribe(self, number: int) -> None:
        """Import `s1@example.com` to `sN@example.com`."""
        path = self.path / "people.csv"
        lines = ["email,name", *(f"s{n}@example.com,Name {n}" for n in range(1, number + 1))]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        assert self.mailer("subscribers", "import", str(path)).code == 0

    def books(self, issue: str = "1") -> dict[str, int]:
        """Return the books of an issue, which balance."""
        books: dict[str, int] = self.mailer("status", issue, "--json").json["books"]
        assert books["audience"] == sum(number for name, number in books.items() if name != "audience")
        return books

    def kept(self) -> list[bytes]:
        """Return the messages in the outbox."""
        new = self.path / "outbox" / "new"
        return [path.read_bytes() for path in new.iterdir()] if new.exists() else []
