"""The program works where only the newsletter's folder and the temporary folder can be written.

The image runs like this (`read_only: true` in deploy/compose), and so do the units (`ProtectSystem=strict`).
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.end_to_end.newsletter import PROJECT, Folder
from tests.ports import free_port
from tests.programs import program

# Makes all mounts read-only but for two folders, gives up all privileges, and runs the other arguments.
CONFINE = r"""
set -eu
data=$1 temporary=$2; shift 2
mount --bind "$data" "$data"
mount --bind "$temporary" "$temporary"
while read -r _ _ _ _ place _; do
    case $place in
        "$data" | "$temporary" | /proc* | /sys* | /dev | /dev/pts) ;;
        *) mount -o remount,bind,ro "$place" ;;
    esac
done </proc/self/mountinfo
cd "$data"
exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all "$@"
"""


@pytest.fixture
def confined(tmp_path: Path) -> list[str]:
    """Return the words before a command that runs with a read-only root."""
    (tmp_path / "news").mkdir()
    (tmp_path / "tmp").mkdir()
    words = [program("unshare"), "--map-root-user", "--mount", "bash", "-c", CONFINE, "confine"]
    words += [str(tmp_path / "news"), str(tmp_path / "tmp")]
    program("setpriv")
    if subprocess.run([*words, "true"], capture_output=True).returncode:
        pytest.skip("this machine allows no mount namespaces")
    return words


@contextmanager
def serving(words: list[str], environment: dict[str, str]) -> Iterator[int]:
    """Serve, and yield the port once the pages answer."""
    port = free_port()
    command = [*words, "serve", "--worker", "--port", str(port)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    assert process.poll() is None, process.communicate()[1]
                    time.sleep(0.1)
            yield port
        finally:
            process.terminate()
            errors = process.communicate(timeout=30)[1]
        assert (process.returncode, errors.count("Read-only"), errors.count("Traceback")) == (0, 0, 0)


@pytest.mark.slow
def test_everything_works_with_a_read_only_root(confined: list[str], tmp_path: Path) -> None:
    Folder(tmp_path / "news")
    (tmp_path / "news" / "people.csv").write_text(
        "email\nana@example.net\nbo@example.net\n", encoding="utf-8"
    )
    environment = {
        **os.environ,
        "HOME": "/nonexistent",
        "TMPDIR": str(tmp_path / "tmp"),
        "PYTHONPATH": str(PROJECT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    touched = subprocess.run([*confined, "touch", str(tmp_path / "x")], capture_output=True, text=True)
    assert "Read-only file system" in touched.stderr
    words = [*confined, sys.executable, "-m", "mailer"]
    for line in ("subscribers import people.csv", "send 1 --yes --no-lint", "db backup copy.db"):
        done = subprocess.run(
            [*words, *line.split()], env=environment, capture_output=True, text=True, timeout=120
        )
        assert (line, done.returncode, done.stderr.count("Read-only")) == (line, 0, 0), done.stderr
    assert len(list((tmp_path / "news" / "outbox" / "new").iterdir())) == 2
    with serving(words, environment) as port:
        for page in ("/healthz", "/archive/001-short", "/subscribe"):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{page}", timeout=20) as answer:
                assert (page, answer.status) == (page, 200)
