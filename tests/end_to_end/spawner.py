"""Starts `mailer` commands by forking from a process that has loaded everything already.

A hundred starts of the command would mostly be imports. Run as a program: for each line on standard
input, a JSON object of arguments, environment and the files that take what is printed, a child in a
session of its own runs that command; the line printed first is the child's process id, the second, when
it has ended, its exit code. If the line also names a file that takes these two lines, nothing waits for
the command.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any


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
        self._ask(
            {
                "arguments": arguments,
                "environment": environment and dict(environment),
                "out": out,
                "err": err,
            }
        )
        return int(self._line())

    def wait(self) -> int:
        """Return the exit code of the command, negative when a signal ended it."""
        return int(self._line())

    def run(self, *arguments: str) -> Command:
        """Start a command that runs beside others."""
        return Command(self._ask, arguments)

    def close(self) -> None:
        """End the process that forks."""
        self._process.communicate()

    def _ask(self, wanted: Mapping[str, object]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(wanted) + "\n")

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


class Command:
    """A command that runs: as much of `subprocess.Popen` as the tests use."""

    def __init__(self, ask: Callable[[Mapping[str, object]], None], arguments: Sequence[str]) -> None:
        self._arguments = arguments
        with tempfile.TemporaryDirectory() as folder:
            out, err, ended = (os.path.join(folder, name) for name in ("out", "err", "ended"))
            for path in (out, err, ended):
                os.mkfifo(path)
            environment = dict(os.environ)
            ask({"arguments": arguments, "environment": environment, "out": out, "err": err, "ended": ended})
            self._ended = open(ended, encoding="ascii")  # noqa: SIM115 - closed in `wait`
            self.stdout: IO[str] = open(out, encoding="utf-8")  # noqa: SIM115 - closed in `communicate`
            self.stderr: IO[str] = open(err, encoding="utf-8")  # noqa: SIM115 - closed in `communicate`
        self.pid = int(self._ended.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, negative if a signal ended the command, or None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code once the command has ended."""
        if self.returncode is None:
            if not select.select([self._ended], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self._arguments, timeout or 0.0)
            self.returncode = int(self._ended.readline())
            self._ended.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Return the rest of what the command prints, once it has ended."""
        until = None if timeout is None else time.monotonic() + timeout
        printed = {"out": b"", "err": b""}
        with selectors.DefaultSelector() as waiting:
            for name, pipe in (("out", self.stdout), ("err", self.stderr)):
                if not pipe.closed:
                    waiting.register(pipe, selectors.EVENT_READ, name)
            while waiting.get_map():
                ready = waiting.select(None if until is None else max(0.0, until - time.monotonic()))
                if not ready:
                    raise subprocess.TimeoutExpired(self._arguments, timeout or 0.0)
                for key, _ in ready:
                    octets = os.read(key.fd, 65536)
                    printed[key.data] += octets
                    if not octets:
                        waiting.unregister(key.fileobj)
        self.wait(None if until is None else max(0.0, until - time.monotonic()))
        self.close()
        return printed["out"].decode(), printed["err"].decode()

    def send_signal(self, number: int) -> None:
        """Send a signal, if the command still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Close the pipes."""
        self.stdout.close()
        self.stderr.close()


def _serve() -> None:
    from mailer.cli import COMMANDS, run

    for module in (place.split(":")[0] for place, _ in COMMANDS.values()):
        importlib.import_module(module)
    gc.freeze()
    for line in sys.stdin:
        wanted = json.loads(line)
        if "ended" in wanted:
            _begin(wanted)
            continue
        child = os.fork()
        if not child:
            os.setsid()
            _become(wanted)
            code = run(wanted["arguments"])
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _begin(wanted: Mapping[str, Any]) -> None:
    """Start a command, and a process that waits for it. Nobody waits for that one, so its parent ends."""
    from mailer.cli import main

    parent = os.fork()
    if parent:
        os.waitpid(parent, 0)
        return
    if os.fork():
        os._exit(0)
    ended = os.open(wanted["ended"], os.O_WRONLY)
    # The command itself opens its pipes, which end with it.
    child = os.fork()
    if not child:
        os.close(ended)
        _become(wanted)
        main(wanted["arguments"])
    for descriptor in range(3):
        os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
    os.write(ended, f"{child}\n".encode())
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.write(ended, f"{code}\n".encode())
    os._exit(0)


def _become(wanted: Mapping[str, Any]) -> None:
    """Take on a command's environment, and the files for what it prints."""
    if wanted["environment"] is not None:
        os.environ.clear()
        os.environ.update(wanted["environment"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for name, descriptor in (("out", 1), ("err", 2)):
        opened = os.open(wanted[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)


if __name__ == "__main__":
    _serve()
