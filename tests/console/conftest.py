"""A console that runs in a folder of its own, as `mailer console` starts it."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from argon2 import PasswordHasher

from mailer.console.sessions import make_link
from mailer.database.engine import Database
from tests.end_to_end.newsletter import Folder
from tests.web.conftest import NO_TLS

CONFIG = '[delivery]\nretry_base = "PT1S"\n[segments]\nvips = "tag:vip"\n'
AGENT = "test browser"
PEOPLE = 60


@dataclass(frozen=True, slots=True)
class Running:
    """A console that runs, and its folder."""

    folder: Folder
    url: str
    port: int
    process: subprocess.Popen[str]

    def link(self) -> str:
        """Return a fresh link that logs its owner in, as `mailer console --link` prints it."""
        with (
            Database("sqlite:///subscribers.db", folder=self.folder.path) as database,
            database.transaction() as connection,
        ):
            secret = make_link(connection, at=datetime.now(UTC))
        return f"{self.url}/login?link={secret}"

    @contextmanager
    def client(self) -> Iterator[httpx.Client]:
        """Give a client that is logged in as the person at this machine."""
        with self.anyone() as made:
            assert made.get(self.link()).status_code == 200
            yield made

    def anyone(self, **headers: str) -> httpx.Client:
        """Return a client that is not logged in."""
        return httpx.Client(
            base_url=self.url, headers={"user-agent": AGENT, **headers}, timeout=60, verify=NO_TLS
        )


@pytest.fixture(scope="session", autouse=True)
def quick_hashes() -> Iterator[None]:
    """Hash passwords with little time and memory: the real parameters take longer than most tests."""
    with pytest.MonkeyPatch.context() as patched:
        quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
        patched.setattr("mailer.console.users._hasher", quick)
        yield


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A console with a worker, in a folder with sixty subscribers."""
    folder = Folder(tmp_path_factory.mktemp("console") / "news", CONFIG)
    folder.subscribe(PEOPLE)
    with started(folder) as running:
        yield running


class started:  # noqa: N801 - used like a function
    """Starts a console in a folder; the block gets it once it answers."""

    def __init__(self, folder: Folder, *arguments: str) -> None:
        self._folder = folder
        self._arguments = arguments

    def __enter__(self) -> Running:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port: int = free.getsockname()[1]
        self._log = (self._folder.path / "console.log").open("w", encoding="utf-8")
        self._process = subprocess.Popen(
            self._folder.command("console", "--port", str(port), *self._arguments),
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert self._process.stdout is not None
        first = self._process.stdout.readline().strip()
        said = Path(self._folder.path, "console.log").read_text(encoding="utf-8")
        assert first.startswith(f"http://127.0.0.1:{port}/login?link="), said
        return Running(self._folder, f"http://127.0.0.1:{port}", port, self._process)

    def __exit__(self, *raised: object) -> None:
        assert self._process.stdout is not None
        self._process.terminate()
        self._process.wait(20)
        self._process.stdout.close()
        self._log.close()
