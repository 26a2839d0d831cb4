"""CPU time of commands that only read, as whole processes, beside importing SQLAlchemy alone.

The newsletter has 20,000 subscribers and an issue that has been sent. The figure is the best of several
runs, since other work on the machine can only add to it. SQLAlchemy's mappers take longer to import than
the bar allows, so the ratio shows what is ours.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from benchmarks import Figure
from benchmarks._sink import sink
from benchmarks.send import newsletter, send

_SUBSCRIBERS: Final = 20_000
_BAR_SECONDS: Final = 0.25
_COMMANDS: Final = (
    ("--version",), ("config", "show"), ("config", "check"), ("status",), ("status", "1"),
    ("why", "reader1@example.com"), ("workers",), ("stats",), ("subscribers", "list"), ("plan", "1"),
    ("lint", "1"),
)  # fmt: skip


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add how often each command runs."""
    parser.add_argument("--commands-runs", type=int, default=7, metavar="N", help="for 'commands'")


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Yield the seconds of CPU of each command."""
    with tempfile.TemporaryDirectory() as scratch, sink() as port:
        folder = newsletter(Path(scratch) / "news", port, signed=False)
        send(folder, _SUBSCRIBERS)
        rounds = options.commands_runs
        peer = min(_seconds(["-c", "import sqlalchemy.orm"]) for _ in range(rounds))
        for command in _COMMANDS:
            line = ["-m", "mailer", *command, "-C", str(folder)]
            ours = min(_seconds(line) for _ in range(rounds))
            yield Figure(
                "commands", f"mailer {' '.join(command)}", ours, peer, ours / peer,
                f"<= {_BAR_SECONDS} s", ours <= _BAR_SECONDS, "s",
            )  # fmt: skip


def _seconds(arguments: Sequence[str]) -> float:
    """Return the CPU time of a Python process, with its byte code cached."""
    environment = {**os.environ}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    before = os.times()
    subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system
