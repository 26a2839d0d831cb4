"""A newcomer follows docs/how/starting.md word by word, in an empty home, with Postfix as the relay."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from email import message_from_bytes
from pathlib import Path

import pytest

from mailer.config import Security
from tests.end_to_end.mtas import postfix
from tests.end_to_end.newsletter import PROJECT

pytestmark = [pytest.mark.servers, pytest.mark.slow]

PAGE = (PROJECT / "docs" / "how" / "starting.md").read_text(encoding="utf-8")
ANSWERS = {"Send": "y"}
READY = {"mailer preview": "http://", "mailer outbox": "http://"}


def section(heading: str) -> str:
    return PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]


class Newcomer:
    """Someone with a terminal, an empty home and the installed command."""

    def __init__(self, home: Path) -> None:
        self.folder = home
        programs = home / "bin"
        programs.mkdir()
        command = programs / "mailer"
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -m mailer "$@"\n')
        command.chmod(0o755)
        path = f"{programs}:/usr/bin:/bin"
        self._environment = {"HOME": str(home), "PATH": path, "TERM": "dumb", "LANG": "C.UTF-8"}

    def types(self, line: str, answers: dict[str, str]) -> str:
        """Run a command on a terminal, answer what it asks, and return what it showed.

        A command that serves until it is stopped gets Ctrl-C once it is ready.
        """
        ready = next((text for start, text in READY.items() if line.startswith(start)), "")
        # Ctrl-C ends the shell as well.
        code = -signal.SIGINT if ready else 0
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            line, shell=True, cwd=self.folder, env=self._environment, stdin=theirs, stdout=theirs,
            stderr=theirs, start_new_session=True,
        ) as running:  # fmt: skip
            os.close(theirs)
            shown, left, until = "", dict(answers), time.monotonic() + 120
            while (chunk := _read(ours, running)) is not None:
                assert time.monotonic() < until, shown
                shown += chunk
                for question in [one for one in left if re.search(f"{re.escape(one)}[^\n]*[:\\]] ?$", shown)]:
                    os.write(ours, f"{left.pop(question)}\n".encode())
                if ready and ready in shown:
                    # A person looks at the page first.
                    time.sleep(1)
                    ready = ""
                    os.killpg(running.pid, signal.SIGINT)
        os.close(ours)
        assert running.returncode == code, shown
        assert "Traceback" not in shown
        return shown


def _read(descriptor: int, running: subprocess.Popen[bytes]) -> str | None:
    """Return what came within a moment; None once the command has ended and all is read."""
    if select.select([descriptor], [], [], 0.1)[0]:
        try:
            return os.read(descriptor, 65536).decode(errors="replace")
        except OSError:
            return None
    return "" if running.poll() is None else None


def test_guide_leads_from_nothing_to_a_sent_issue(tmp_path: Path) -> None:
    robin = Newcomer(tmp_path)
    block = re.findall(r"```console\n(.*?)```", section("Create it"), re.DOTALL)[0].splitlines()
    assert [line for line in block if line.startswith("$ ")] == [
        "$ mailer init windowsill",
        "$ cd windowsill",
    ]
    asked = [line for line in block if not line.startswith("$ ")]
    answers = {line.split(" [")[0].split(":")[0]: line.split(": ", 1)[1] for line in asked}
    shown = robin.types(block[0].removeprefix("$ "), answers)
    for line in asked:
        assert line in shown.replace("\r", "")
    robin.folder = tmp_path / "windowsill"
    for name in re.findall(r"^\| `([^`]+)` \|", section("Create it"), re.MULTILINE):
        assert (robin.folder / name).exists() == (name != "subscribers.db")

    (robin.folder / "people.csv").write_text("email,name\nana@example.com,Ana\nbob@example.com,Bob\n")
    with postfix() as relay:
        with (robin.folder / "config.toml").open("a") as config:
            blocks = re.findall(r"```toml\n(.*?)```", section("Send through a relay"), re.DOTALL)
            assert 'security = "plain"' in blocks[-1]
            config.write("\n" + blocks[-1].replace("port = 25", f"port = {relay.ports[Security.PLAIN]}"))
        steps = re.findall(r"^\d\. .*", section("Write and send an issue"), re.MULTILINE)
        commands = [one for step in steps for one in re.findall(r"`(mailer [^`]+)`", step)]
        assert [one.split()[1] for one in commands] == [
            *("preview", "lint", "test", "subscribers", "plan", "send", "outbox", "send"),
        ]
        said = {
            one: robin.types(one.replace("you@example.org", "robin@example.com"), ANSWERS)
            for one in commands[:-2]
        }
        assert "2 " in said["mailer plan 1"]
        # The same command once more: nothing is sent again.
        robin.types(commands[-1], ANSWERS)
        kept = [message_from_bytes(raw) for raw in relay.kept(3)]
    found = sorted((one["X-Original-To"] or one["Delivered-To"], one["Subject"]) for one in kept)
    assert found == [
        ("ana@example.com", "Hello"),
        ("bob@example.com", "Hello"),
        ("robin@example.com", "[Test] Hello"),
    ]
    assert all("1 Example Street" in one.as_string() for one in kept)
