"""`mailer worker`: send what is due and do the periodic work, until stopped."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click
from msgspec.structs import asdict

from mailer.cli.app import App, Command, Number, log_options, pass_app

if TYPE_CHECKING:
    from mailer.cluster.chores import Chore
    from mailer.cluster.daemon import Daemon
    from mailer.delivery.work import Work
    from mailer.tasks import Tasks

_LOOK_SECONDS: Final = 30.0
"""How often to look for work, on SQLite."""
_LOOK_AT_SIGNALS_SECONDS: Final = 0.2
_FETCH_SECONDS: Final = 300
"""How often to read the bounce mailboxes."""
_LETTERS_SECONDS: Final = 20
"""How often to look for letters, on PostgreSQL."""
_DAY_SECONDS: Final = 86_400
_CONCURRENCY: Final = 4


@click.command(cls=Command)
@click.option(
    "--every",
    "look_seconds",
    type=Number(0.1, 3600),
    metavar="SECONDS",
    help="How often to look for work; every 30 seconds by default, on PostgreSQL every 10.",
)
@click.option("--until-closed", is_flag=True, help="Also stop when standard input closes.")
@click.option(
    "--name",
    default="",
    metavar="NAME",
    help="The worker's name in `mailer workers`; the host name by default.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 16),
    default=_CONCURRENCY,
    show_default=True,
    metavar="N",
    help="Send up to N issues at the same time. On SQLite they are sent one after the other.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="Serve /healthz and /api/v1/metrics on this port; off by default.",
)
@click.option("--host", help="The address to listen on with --port; 127.0.0.1 by default.")
@log_options
@pass_app
def worker(
    app: App,
    look_seconds: float | None,
    until_closed: bool,
    name: str,
    concurrency: int,
    port: int | None,
    host: str | None,
) -> None:
    """Send scheduled issues, retries and letters until you stop it (Ctrl-C, SIGTERM).

    It queues scheduled issues on time and sends the remaining deliveries of all issues that are not
    paused: retries, and the rest of an interrupted run. It also reads the bounce mailboxes, updates the
    statistics, delivers webhooks and deletes expired data.

    On PostgreSQL, run as many as you like, on any machines: they send each issue together, and one of
    them at a time does the periodic work.
    """
    from mailer.tasks import Tasks

    if host and not port:
        raise click.UsageError("--host needs --port")
    name, tasks = name or socket.gethostname(), Tasks()
    work = _work(app, name)
    health = _health(app, tasks, host or "127.0.0.1", port)
    if app.database.is_sqlite:
        seconds = look_seconds or _LOOK_SECONDS
        _work_alone(app, work, name, tasks, health, look_seconds=seconds, until_closed=until_closed)
        return
    daemon = _daemon(app, work, name, tasks, concurrency, look_seconds)

    async def main() -> None:
        if until_closed:
            _when_input_closes(daemon.stop)
        app.say("working; stop with Ctrl-C")
        await daemon.run()

    with health:
        asyncio.run(main())


def _health(app: App, tasks: Tasks, host: str, port: int | None) -> AbstractContextManager[object]:
    """Listen on the port, if there is one; return a context that answers there."""
    if port is None:
        return nullcontext()
    from mailer.web.monitoring import create_monitoring
    from mailer.web.server import serving

    return serving(create_monitoring(app.database, tasks), host=host, port=port)


def _daemon(
    app: App, work: Work, name: str, tasks: Tasks, concurrency: int, look_seconds: float | None
) -> Daemon:
    """Return a worker of a PostgreSQL database, which takes turns with the others."""
    from mailer.cluster.chores import Chore
    from mailer.cluster.daemon import Daemon, Times
    from mailer.delivery.letter_sender import LetterSender

    letters = LetterSender(work.settings, app.database, app.signer)
    send_letters = Chore("letters", _LETTERS_SECONDS, letters.deliver, stop=letters.close, priority=100)
    times = Times() if look_seconds is None else replace(Times(), look_seconds=max(1, round(look_seconds)))
    done = [send_letters, *chores(app)]
    return Daemon(work, done, name=name, concurrency=concurrency, times=times, tasks=tasks)


@contextmanager
def beside_pages(app: App, tasks: Tasks) -> Iterator[None]:
    """Do the work of a worker in tasks while the block runs, except letters, which the pages send."""
    name = socket.gethostname()
    work = _work(app, name)
    if app.database.is_sqlite:
        with _rounds(app, work, name, tasks, look_seconds=_LOOK_SECONDS):
            yield
        return
    from mailer.cluster.daemon import Daemon

    daemon = Daemon(work, chores(app), name=name, concurrency=_CONCURRENCY, tasks=tasks)
    with tasks.running("worker", lambda: asyncio.run(daemon.run()), every_seconds=1.0, stop=daemon.stop):
        yield


@contextmanager
def upkeep(app: App, tasks: Tasks) -> Iterator[None]:
    """Do the periodic work of `mailer serve` in tasks while the block runs."""
    with _repeating([chore for chore in chores(app) if chore.name not in ("bounces", "digests")], tasks):
        yield


@contextmanager
def _repeating(chores: Sequence[Chore], tasks: Tasks) -> Iterator[None]:
    with ExitStack() as stack:
        for chore in chores:
            stack.enter_context(tasks.running(chore.name, chore.do, every_seconds=chore.every_seconds))
        yield


def _work(app: App, name: str) -> Work:
    from mailer.bounces.refusals import learn_by
    from mailer.cli import canary
    from mailer.delivery.relays import for_machine
    from mailer.delivery.work import Work

    settings = for_machine(app.settings, name)
    return Work(
        settings,
        app.database,
        app.signer,
        learn=learn_by(settings.bounces),
        steps_of=lambda run: canary.steps(app, run),
        say=app.say,
    )


def chores(app: App) -> list[Chore]:
    """Return the periodic work other than sending."""
    from mailer.audience.privacy.retention import Terms, prune
    from mailer.cli import canary
    from mailer.cluster.chores import Chore, recorded
    from mailer.reports.rollups import REFRESH_SECONDS, refresh
    from mailer.review import digests
    from mailer.web import outgoing

    terms = Terms(**asdict(app.settings.retention))
    found = [
        Chore("bounces", _FETCH_SECONDS, lambda: canary.fetch(app)),
        Chore(
            "statistics",
            REFRESH_SECONDS,
            lambda: refresh(
                app.database,
                at=datetime.now(UTC),
                segments=app.settings.segments,
                quiet_days=app.settings.bounces.quiet_days,
            ),
        ),
        Chore("webhooks", outgoing.LOOK_SECONDS, lambda: outgoing.deliver(app.database)),
        Chore("digests", digests.LOOK_SECONDS, lambda: digests.look(app.settings, app.database, say=app.say)),
        Chore("old events", _DAY_SECONDS, lambda: outgoing.forget(app.database, at=datetime.now(UTC))),
        Chore("retention", _DAY_SECONDS, lambda: prune(app.database, terms, at=datetime.now(UTC))),
    ]
    return [recorded(one, app.database) for one in found]


def _work_alone(
    app: App,
    work: Work,
    name: str,
    tasks: Tasks,
    health: AbstractContextManager[object],
    *,
    look_seconds: float,
    until_closed: bool,
) -> None:
    """Do all the work in tasks of this process, the only worker of an SQLite database."""
    from mailer.delivery.letter_sender import LetterSender

    letters = LetterSender(work.settings, app.database, app.signer)
    # Not an event: a signal handler that sets one waits for ever if it interrupts the wait in a bad moment,
    # and a signal that another thread receives would not end the wait at all.
    stops: list[object] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *received: stops.append(received))
    if until_closed:
        _when_input_closes(lambda: stops.append("input"))
    with _rounds(app, work, name, tasks, look_seconds=look_seconds):
        letters.start(tasks)
        with health:
            app.say("working; stop with Ctrl-C")
            while not stops:
                time.sleep(_LOOK_AT_SIGNALS_SECONDS)
        app.say("stopping: messages in flight are settled first")
    letters.close()


@contextmanager
def _rounds(app: App, work: Work, name: str, tasks: Tasks, *, look_seconds: float) -> Iterator[None]:
    """Send issues and do the chores in tasks while the block runs. SQLite only."""
    from mailer.cluster import members
    from mailer.delivery.rounds import Rounds

    with app.database.transaction() as connection:
        members.remove_dead(connection)
        member_id = members.enter(connection, name, at=work.clock())
    rounds = Rounds(work, look_seconds=look_seconds)
    with _repeating(chores(app), tasks):
        rounds.start(tasks)
        try:
            yield
        finally:
            rounds.close()
    with app.database.transaction() as connection:
        members.leave(connection, member_id)


def _when_input_closes(stop: Callable[[], object]) -> None:
    """Stop the worker when standard input closes: the process that started it has ended."""

    def wait() -> None:
        sys.stdin.buffer.read()
        stop()

    threading.Thread(target=wait, name="mailer-parent", daemon=True).start()
