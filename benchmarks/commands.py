"""CPU time of commands that only read, as whole processes, beside importing SQLAlchemy alone.

The newsletter has 20,000 subscribers and an issue that has been sent. The figure is the best of several
runs, since other work on the machine can only add to it. The ratio shows what is ours. `mailer send` counts
until a relay receives the first MAIL FROM: it renders, checks and queues an issue of 60 KB before.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from benchmarks import Figure
from benchmarks._sink import sink
from benchmarks.send import children_seconds, fill, newsletter, send, send_command

_SUBSCRIBERS: Final = 20_000
_BAR_SECONDS: Final = 0.25
_SEND_BAR_SECONDS: Final = 0.5
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
        peer = min(_seconds(["-c", "import sqlalchemy"]) for _ in range(rounds))
        for command in _COMMANDS:
            line = ["-m", "mailer", *command, "-C", str(folder)]
            ours = min(_seconds(line) for _ in range(rounds))
            yield _beside(" ".join(command), ours, peer, _BAR_SECONDS)
    with tempfile.TemporaryDirectory() as scratch:
        folder = newsletter(Path(scratch) / "news", port, signed=False)
        first = min(_until_first_message(folder) for _ in range(rounds))
    yield _beside("send 1, until its first message", first, peer, _SEND_BAR_SECONDS)


def _beside(command: str, ours: float, peer: float, bar: float) -> Figure:
    return Figure("commands", f"mailer {command}", ours, peer, ours / peer, f"<= {bar} s", ours <= bar, "s")


def _until_first_message(folder: Path) -> float:
    """Return the CPU time of `mailer send` until the relay receives MAIL FROM; the command ends there."""
    fill(folder, _SUBSCRIBERS)
    # Not the relay of the last round: connections of its sender may still wait there.
    with socket.create_server(("127.0.0.1", 0)) as relay:
        relay.settimeout(30)
        port = {"MAILER_RELAYS__SINK__PORT": str(relay.getsockname()[1])}
        before = children_seconds()
        with subprocess.Popen(send_command(folder), env=_environment() | port) as sending:
            connection, _ = relay.accept()
            with connection, connection.makefile("rwb", buffering=0) as dialogue:
                dialogue.write(b"220 relay ESMTP\r\n")
                while line := dialogue.readline():
                    if line.startswith(b"MAIL"):
                        break
                    dialogue.write(b"250 relay\r\n")
                else:
                    raise SystemExit("mailer send ended before its first message")
                sending.kill()
        return children_seconds() - before


def _seconds(arguments: Sequence[str]) -> float:
    """Return the CPU time of a Python process, with its byte code cached."""
    before = children_seconds()
    subprocess.run(
        [sys.executable, *arguments],
        env=_environment(),
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return children_seconds() - before


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
