"""A PostgreSQL server that goes away under one run or two: nobody is lost, and nobody is mailed twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from sqlalchemy import make_url

from mailer.database.engine import Database
from mailer.delivery.clock import DEAD_SECONDS, SILENT_SECONDS
from mailer.delivery.ending import Ending
from mailer.delivery.issues import QueuedIssue
from mailer.delivery.lock import exclusive
from mailer.errors import ExitCode, LockedError, TakenOverError, UnavailableError
from tests.connections import new_database
from tests.delivery.machine import HEIR, SOON, WINDOW, Machine, Policy
from tests.delivery.scene import books, queued
from tests.delivery.stalling_proxy import Proxy
from tests.end_to_end.recorder import Recorder
from tests.postgres import Server, configured

PEOPLE = 150
AWAY_SECONDS = 0.7


@dataclass
class Scene:
    """An issue for some people on PostgreSQL, and an SMTP server that counts."""

    server: Server
    database: Database
    issue: QueuedIssue
    recorder: Recorder

    @property
    def url(self) -> str:
        return self.database.url.render_as_string(hide_password=False)

    def machine(
        self,
        policy: Policy = "resend",
        *,
        patience_seconds: float = 60.0,
        times: tuple[float, float] = (SILENT_SECONDS, DEAD_SECONDS),
    ) -> Machine:
        return Machine(self.url, self.recorder.port, policy, patience_seconds=patience_seconds, times=times)

    def wait_for(self, messages: int) -> None:
        until = time.monotonic() + 90
        while self.recorder.total < messages:
            assert time.monotonic() < until
            time.sleep(0.005)

    @property
    def doubled(self) -> int:
        return self.recorder.total - len(self.recorder.accepted)


@pytest.fixture
def scene(postgresql: Server) -> Iterator[Scene]:
    with Recorder() as recorder, new_database(postgresql) as database:
        yield Scene(postgresql, database, queued(database, PEOPLE), recorder)


def restarted(server: Server) -> None:
    server.restart("fast")


def crashed(server: Server) -> None:
    server.restart("immediate")


def dropped(server: Server) -> None:
    with server.connection() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )


def read_only(server: Server) -> None:
    with configured(server, "default_transaction_read_only = on"):
        time.sleep(AWAY_SECONDS)


def idle_sessions_ended(server: Server) -> None:
    with configured(server, "idle_session_timeout = 20"):
        time.sleep(AWAY_SECONDS)


FAULTS = [restarted, crashed, dropped, read_only, idle_sessions_ended]
Fault = Callable[[Server], None]


@pytest.mark.parametrize("fault", FAULTS)
def test_run_continues_after_a_fault_and_emails_everybody_once(scene: Scene, fault: Fault) -> None:
    a = scene.machine()
    a.start()
    scene.wait_for(40)
    fault(scene.server)
    a.wait()
    assert a.error is None
    assert a.ended is not None
    assert (a.ended.ending, a.ended.books.sent) == (Ending.FINISHED, PEOPLE)
    assert books(scene.database, scene.issue).sent == len(scene.recorder.accepted) == PEOPLE
    assert scene.doubled == 0


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("policy", ["resend", "hold"])
def test_two_machines_go_on_after_a_fault_and_mail_everybody_once(
    scene: Scene, fault: Fault, policy: Policy
) -> None:
    a, b = scene.machine(policy), scene.machine(policy)
    b.insists = True
    a.start()
    scene.wait_for(40)
    b.start()
    fault(scene.server)
    a.wait()
    b.wait()
    assert (a.error, b.error) == (None, None)
    assert books(scene.database, scene.issue).sent == len(scene.recorder.accepted) == PEOPLE
    assert scene.doubled == 0


@pytest.mark.parametrize("policy", ["resend", "hold"])
def test_machine_that_is_cut_off_from_the_database_is_taken_over_and_stops(
    scene: Scene, policy: Policy
) -> None:
    with Proxy(scene.server.port).running() as proxy:
        url = make_url(scene.url).set(port=proxy.port).render_as_string(hide_password=False)
        a = Machine(url, scene.recorder.port, policy, times=SOON)
        b = scene.machine(policy, times=HEIR)
        b.insists = True
        a.start()
        scene.wait_for(40)
        proxy.flowing.clear()
        b.start()
        b.wait()
        proxy.flowing.set()
        a.wait()
    assert isinstance(a.error, TakenOverError)
    check_taken_over(scene, policy)


def test_commit_whose_answer_is_lost_is_not_written_twice(scene: Scene) -> None:
    with Proxy(scene.server.port).running() as proxy:
        url = make_url(scene.url).set(port=proxy.port).render_as_string(hide_password=False)
        a = Machine(url, scene.recorder.port)
        a.start()
        for messages in (30, 60, 90):
            scene.wait_for(messages)
            proxy.answers_to_lose = 1
        a.wait()
        assert proxy.answers_to_lose == 0
    assert a.error is None
    assert a.ended is not None
    assert (a.ended.ending, a.ended.books) == (Ending.FINISHED, books(scene.database, scene.issue))
    assert a.ended.books.sent == len(scene.recorder.accepted) == PEOPLE
    assert scene.doubled == 0


def check_taken_over(scene: Scene, policy: Policy) -> None:
    """Assert that nobody is lost, and that only what was on its way may have come twice."""
    found = books(scene.database, scene.issue)
    assert found.sending == 0
    if policy == "hold":
        assert scene.doubled == 0
        assert found.sent + found.uncertain == PEOPLE
        assert found.uncertain <= WINDOW
        assert len(scene.recorder.accepted) >= found.sent
    else:
        assert scene.doubled <= WINDOW
        assert found.sent == len(scene.recorder.accepted) == PEOPLE


@pytest.mark.parametrize("policy", ["resend", "hold"])
def test_machine_that_was_stopped_for_a_while_sends_nothing_when_it_goes_on(
    scene: Scene, policy: Policy
) -> None:
    a, b = started(scene, policy), scene.machine(policy, times=HEIR)
    b.insists = True
    scene.wait_for(40)
    a.send_signal(signal.SIGSTOP)
    # What had left before arrives.
    time.sleep(0.3)
    b.start()
    b.wait()
    a.send_signal(signal.SIGCONT)
    said, _ = a.communicate(timeout=60)
    assert json.loads(said) == {"error": "TakenOverError"}
    check_taken_over(scene, policy)


def started(scene: Scene, policy: Policy) -> subprocess.Popen[str]:
    """Start a machine that is a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.delivery.machine", scene.url, str(scene.recorder.port), policy],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_run_whose_process_is_known_to_be_gone_is_taken_over_without_waiting(scene: Scene) -> None:
    a = started(scene, "resend")
    scene.wait_for(40)
    a.kill()
    a.communicate()
    b = scene.machine()
    b.start()
    b.wait()
    # It was neither refused nor did it wait for thirty seconds.
    assert b.error is None
    check_taken_over(scene, "resend")


def test_run_gives_up_when_its_patience_ends_and_the_next_one_recovers(scene: Scene) -> None:
    a = scene.machine(patience_seconds=0.3)
    a.start()
    scene.wait_for(40)
    with configured(scene.server, "default_transaction_read_only = on"):
        a.wait()
    assert isinstance(a.error, UnavailableError)
    assert a.error.exit_code is ExitCode.FAILURE
    assert "gave up" in a.error.message
    assert "read-only" in a.error.message
    left = books(scene.database, scene.issue)
    assert 0 < left.sending <= WINDOW
    b = scene.machine(times=HEIR)
    b.insists = True
    b.start()
    b.wait()
    assert b.ended is not None
    assert b.ended.ending is Ending.FINISHED
    check_taken_over(scene, "resend")


def test_amending_is_refused_with_the_place_of_a_run(scene: Scene) -> None:
    a = scene.machine()
    a.start()
    scene.wait_for(10)
    with pytest.raises(LockedError, match="process") as refused, exclusive(scene.database):
        pass
    a.wait()
    assert refused.value.exit_code is ExitCode.LOCKED
    assert a.error is None
