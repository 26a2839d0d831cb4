"""Several processes share one issue, and none is missed when it dies."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from mailer.database.engine import Database
from mailer.delivery import runs
from mailer.delivery.books import Books
from mailer.delivery.clock import now
from mailer.delivery.ending import Ending
from mailer.delivery.issues import QueuedIssue
from mailer.delivery.lock import sending
from mailer.delivery.workers import dispatch_to_workers
from mailer.errors import ExitCode, LockedError, MailerError
from tests.delivery.scene import books, queued


@dataclass
class Scene:
    """A queued issue of ten, and workers that are small programs."""

    database: Database
    issue: QueuedIssue

    def send(self, program: str, workers: int = 2) -> tuple[Ending, Books, list[Books]]:
        seen: list[Books] = []
        ended = dispatch_to_workers(
            [sys.executable, "-c", f"import json, os, sys\n{program}"],
            self.database,
            self.issue,
            workers=workers,
            progress=seen.append,
        )
        return ended.ending, ended.books, seen


@pytest.fixture
def scene(database: Database) -> Scene:
    return Scene(database, queued(database, 10))


def told(**fields: object) -> str:
    return f"print({json.dumps(fields)!r}, flush=True)\n"


WAITS = told(ended="waiting", reason="", error=None)


def test_progress_is_the_sum_of_what_workers_did(scene: Scene) -> None:
    ending, _, seen = scene.send(told(moved={"queued": -3, "sent": 3}) + WAITS)
    assert ending is Ending.WAITING
    assert (seen[-1].audience, seen[-1].queued, seen[-1].sent) == (10, 4, 6)


def test_worker_gets_its_number_as_last_argument(scene: Scene, tmp_path: Path) -> None:
    scene.send(f"open({str(tmp_path)!r} + '/' + sys.argv[1].replace('/', '-'), 'w')\n{WAITS}", workers=3)
    assert {path.name for path in tmp_path.glob("?-3")} == {"1-3", "2-3", "3-3"}


def test_dead_worker_leaves_its_claims_uncertain_and_is_replaced(scene: Scene, tmp_path: Path) -> None:
    with scene.database.transaction() as connection:
        run_id = runs.begin(connection, scene.issue.id, at=now())
    mark = tmp_path / "died"
    claim = (
        f"import sqlite3; c = sqlite3.connect({str(scene.database.path)!r})\n"
        f"c.execute('UPDATE deliveries SET state = ?, run_id = {run_id}"
        " WHERE subscriber_id < 4', ['sending'])\n"
        "c.commit()\n"
    )
    died = told(run=run_id) + claim + f"open({str(mark)!r}, 'w')\n" + "os.kill(os.getpid(), 9)\n"
    indented = "".join(f"    {line}\n" for line in died.splitlines())
    ending, after, _ = scene.send(f"if not os.path.exists({str(mark)!r}):\n{indented}{WAITS}", workers=1)
    assert ending is Ending.WAITING
    assert (after.sending, after.uncertain, after.queued) == (0, 3, 7)


def test_workers_that_die_before_they_begin_end_the_run_with_a_reason(scene: Scene) -> None:
    with pytest.raises(MailerError, match=r"before they send anything \(status 3\)"):
        scene.send("sys.exit(3)")
    assert books(scene.database, scene.issue).queued == 10


def test_error_of_a_worker_is_the_run_s(scene: Scene) -> None:
    failed = {"message": "the disk is full", "remedy": "make room", "exit_code": 1}
    with pytest.raises(MailerError, match="the disk is full") as error:
        scene.send(told(failed=failed))
    assert (error.value.remedy, error.value.exit_code) == ("make room", ExitCode.FAILURE)


def test_weightiest_ending_is_the_run_s(scene: Scene) -> None:
    pauses = told(
        ended="paused", reason="login refused", error={"message": "login refused", "remedy": "mend"}
    )
    choose = f"if sys.argv[1] == '1/2':\n    {WAITS}else:\n    {pauses}"
    ended = dispatch_to_workers(
        [sys.executable, "-c", f"import sys\n{choose}"], scene.database, scene.issue, workers=2
    )
    assert (ended.ending, ended.reason) == (Ending.PAUSED, "login refused")
    assert ended.error is not None
    assert ended.error.remedy == "mend"


def test_workers_inherit_the_lock(scene: Scene) -> None:
    assert scene.database.path is not None
    lock = f"{scene.database.path}.sending"
    looks = (
        "kept = [fd for fd in os.listdir('/dev/fd') if os.path.exists(f'/dev/fd/{fd}')]\n"
        f"assert any(os.path.samefile(f'/dev/fd/{{fd}}', {lock!r}) for fd in kept)\n"
    )
    assert scene.send(looks + WAITS, workers=1)[0] is Ending.WAITING


def test_second_run_is_refused_while_workers_send(scene: Scene) -> None:
    with sending(scene.database), pytest.raises(LockedError):
        scene.send(WAITS)
