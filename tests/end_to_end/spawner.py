"""Starts `mailer` commands by forking from a process that has loaded everything already.

A hundred starts of the command would mostly be imports. Run as a program: for each line on standard
input, a JSON object of arguments, environment and the files that take what is printed, a child in a
session of its own runs that command; the line printed first is the child's process id, the second, when
it has ended, its exit code.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


class Spawner:
    """The parent's side: one command at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.end_to_end.spawner"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=Path(__file__).parents[2],
        )

    def start(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        out: str = os.devnull,
        err: str = os.devnull,
    ) -> int:
        """Start a command; return its process id, which is also that of its group.

        `environment` is the whole of it; None leaves the one that this object was made in.
        """
        assert self._process.stdin is not None
        wanted = {
            "arguments": arguments,
            "environment": environment and dict(environment),
            "out": out,
            "err": err,
        }
        self._process.stdin.write(json.dumps(wanted) + "\n")
        return int(self._line())

    def wait(self) -> int:
        """Return the exit code of the command, negative when a signal ended it."""
        return int(self._line())

    def close(self) -> None:
        """End the process that forks."""
        self._process.communicate()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


def _serve() -> None:
    from mailer.cli import COMMANDS, run

    for module in (place.split(":")[0] for place, _ in COMMANDS.values()):
        importlib.import_module(module)
    for line in sys.stdin:
        wanted = json.loads(line)
        child = os.fork()
        if not child:
            os.setsid()
            if wanted["environment"] is not None:
                os.environ.clear()
                os.environ.update(wanted["environment"])
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(os.open(wanted["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 1)
            os.dup2(os.open(wanted["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 2)
            code = run(wanted["arguments"])
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    _serve()
