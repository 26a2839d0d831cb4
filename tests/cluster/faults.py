"""A fault while workers send an issue: what was lost, what came twice, and whether the books are true.

Each worker is a process in a folder of its own, as on a machine of its own. The first one suffers.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from sqlalchemy import make_url, select

from mailer.database.engine import Database
from mailer.database.tables import Delivery, DeliveryState, IssueState, Subscriber
from mailer.delivery import issues
from mailer.delivery.books import Books, books_of, running_books
from mailer.delivery.issues import QueuedIssue
from tests.delivery.scene import queued
from tests.delivery.stalling_proxy import Proxy
from tests.end_to_end.newsletter import Folder
from tests.end_to_end.recorder import Recorder
from tests.end_to_end.spawner import Command
from tests.postgres import Server, configured, running

CONNECTIONS: Final = 4
WINDOW: Final = 20
ON_THE_WIRE: Final = 2 * CONNECTIONS
"""How many messages can be between the workers and the relay: a connection pipelines the next one."""
_DID_NOT_END: Final = "a worker did not end\n"
CONFIG: Final = """\
[paths]
database = "{url}"
[delivery]
window = {window}
uncertain = "{policy}"
[relays.recorder]
host = "127.0.0.1"
port = {port}
security = "plain"
connections = {connections}
rate_per_second = {rate}
[web]
public_url = "https://news.example.org"
"""


_SENT: Final = (
    select(Subscriber.c.address)
    .join(Delivery, Delivery.c.subscriber_id == Subscriber.c.id)
    .where(Delivery.c.state == DeliveryState.SENT.value)
)


@dataclass(frozen=True, slots=True)
class Cell:
    """One fault with a number of workers."""

    fault: str
    workers: int
    policy: Literal["resend", "hold"]
    seconds: float
    """How long the fault lasts."""
    people: int = 400
    rate: int = 30


@dataclass(frozen=True, slots=True)
class Found:
    """What a cell ended with."""

    books: Books
    lost: int
    """How many got nothing although the books call them sent."""
    doubled: int
    seconds: float
    """From the fault until everything was settled."""
    said: str
    """What the workers wrote to standard error."""

    @property
    def is_true(self) -> bool:
        """Whether the books balance and nothing is open."""
        return self.books.balanced and self.books.sent + self.books.uncertain == self.books.audience

    @property
    def is_calm(self) -> bool:
        """Whether the workers reported nothing unexpected, and ended when they were stopped."""
        return not any(sign in self.said for sign in ("Traceback", "this is a bug", _DID_NOT_END))

    def holds(self, policy: str) -> bool:
        """Return whether nobody is lost, and no more came twice than can be on the wire."""
        most = 0 if policy == "hold" else ON_THE_WIRE
        return self.is_true and self.is_calm and not self.lost and self.doubled <= most


class Machines:
    """The workers of a cell, and what a fault does to them."""

    def __init__(self, cell: Cell, folder: Path, server: Server, url: str, port: int, proxy: Proxy) -> None:
        self.server, self.proxy, self.cell = server, proxy, cell
        through = make_url(url).set(port=proxy.port).render_as_string(hide_password=False)
        self._folders = [
            Folder(
                folder / f"machine{n}",
                CONFIG.format(
                    url=through if n == 0 else url, window=WINDOW, policy=cell.policy, port=port,
                    connections=CONNECTIONS, rate=cell.rate,
                ),
            )
            for n in range(cell.workers)
        ]  # fmt: skip
        self.started: list[Command] = []
        self.first = 0

    def start_all(self) -> None:
        """Start the workers."""
        for number in range(len(self._folders)):
            self.start(number)

    def start(self, number: int) -> None:
        """Start one worker, as a service manager does."""
        self.started.append(self._folders[number].start("worker", "--name", f"machine{number}"))

    def close(self) -> str:
        """Stop all; return what they said."""
        for process in self.started:
            process.terminate()
        said = ""
        for process in self.started:
            try:
                said += process.communicate(timeout=60)[1]
            except subprocess.TimeoutExpired:
                process.kill()
                said += process.communicate()[1] + _DID_NOT_END
        return said


def kill(machines: Machines) -> None:
    machines.started[0].kill()
    time.sleep(1)
    machines.start(0)


def stop(machines: Machines) -> None:
    machines.started[0].send_signal(signal.SIGSTOP)
    time.sleep(machines.cell.seconds)
    machines.started[0].send_signal(signal.SIGCONT)


def terminate(machines: Machines) -> None:
    with machines.server.connection() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )


def restart_fast(machines: Machines) -> None:
    machines.server.restart("fast")


def restart_immediate(machines: Machines) -> None:
    machines.server.restart("immediate")


def idle_timeout(machines: Machines) -> None:
    with configured(machines.server, "idle_session_timeout = 20"):
        time.sleep(machines.cell.seconds)


def read_only(machines: Machines) -> None:
    with configured(machines.server, "default_transaction_read_only = on"):
        time.sleep(machines.cell.seconds)


def cut(machines: Machines) -> None:
    machines.proxy.flowing.clear()
    time.sleep(machines.cell.seconds)
    machines.proxy.flowing.set()


FAULTS: Final[dict[str, Callable[[Machines], None]]] = {
    "kill -9": kill,
    "SIGSTOP and thaw": stop,
    "pg_terminate_backend": terminate,
    "idle_session_timeout": idle_timeout,
    "restart fast": restart_fast,
    "restart immediate": restart_immediate,
    "read-only": read_only,
    "network cut": cut,
}


def run(cell: Cell) -> Found:
    """Let a fault happen when a fifth is sent; return what everything came to."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running() as server,
        Recorder() as recorder,
        Proxy(server.port).running() as proxy,
    ):
        url = server.new_database()
        with Database(url) as database:
            database.open()
            issue = queued(database, cell.people)
            machines = Machines(cell, Path(folder), server, url, recorder.port, proxy)
            machines.start_all()
            try:
                _wait(lambda: recorder.total >= cell.people // 5, 120)
                began = time.monotonic()
                FAULTS[cell.fault](machines)
                _wait(lambda: _is_settled(database, issue, cell), 300)
                seconds = time.monotonic() - began
            finally:
                said = machines.close()
            with database.reading() as connection:
                books = books_of(connection, issue.id)
                assert running_books(connection, issue.id) == books
                sent = set(connection.scalars(_SENT))
        doubled = recorder.total - len(recorder.accepted)
        return Found(books, len(sent - recorder.accepted.keys()), doubled, seconds, said)


def _is_settled(database: Database, issue: QueuedIssue, cell: Cell) -> bool:
    with contextlib.suppress(Exception), database.reading() as connection:
        books = books_of(connection, issue.id)
        if cell.policy == "hold" and books.uncertain:
            return books.sent + books.uncertain == books.audience
        return issues.get(connection, issue.id).state is IssueState.FINISHED
    return False


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    """Return once a condition holds, or the time is over: then the books tell what is missing."""
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.2)
