"""`mailer rehearse`: rehearse sending to the real audience against a misbehaving server."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from mailer.bounces.boxes.configured import rules_of
from mailer.bounces.boxes.fetch import Tally, fetch
from mailer.bounces.boxes.maildir import Maildir
from mailer.bounces.refusals import learn_by
from mailer.cli import books as shown
from mailer.cli.app import App, Command, finish, json_option, pass_app, segment_option
from mailer.cli.units import duration, octets
from mailer.database.engine import Database
from mailer.delivery import editions
from mailer.delivery.ending import Ending
from mailer.errors import ExitCode
from mailer.printable import counted
from mailer.rehearsal.rehearse import Rehearsed
from mailer.rehearsal.rehearse import rehearse as play
from mailer.rehearsal.scenario import read_scenario
from mailer.review import planning
from mailer.review.planning import Forecast


@click.command(cls=Command)
@click.argument("issue")
@click.option(
    "--scenario",
    "scenario_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The faults to simulate (see docs/reference/scenarios.md); an ordinary day by default.",
)
@click.option(
    "--seed",
    type=int,
    metavar="N",
    help="Another number affects other people; the scenario's own by default.",
)
@segment_option
@json_option
@pass_app
def rehearse(
    app: App, issue: str, scenario_file: Path | None, seed: int | None, segment: str, as_json: bool
) -> None:
    """Rehearse sending ISSUE to its real audience, against a misbehaving server on this machine.

    Nothing leaves the machine and your database is only read: the rehearsal works on a temporary copy.
    It skips every wait, so hours of retries pass in seconds; the durations shown are those of a real
    run.

    Exit codes: 0 rehearsed; 130 interrupted; otherwise as `mailer send`.
    """
    settings, at = app.settings, datetime.now(UTC)
    scenario = read_scenario(scenario_file, seed=seed)
    edition = editions.build(settings, editions.find_source(settings, issue))
    made = planning.forecast(settings, app.database, edition, segment)
    with (
        _temporary_folder() as folder,
        Database("sqlite:///rehearsal.db", folder=folder) as copy,
        shown.bar(wanted=not (as_json or app.quiet)) as bar,
    ):
        rehearsed, signer = play(
            settings,
            app.database,
            copy,
            edition,
            scenario,
            folder,
            segment=segment,
            learn=learn_by(settings.bounces),
            at=at,
            progress=bar.show,
        )
        tally = Tally()
        if rehearsed.returned:
            box = Maildir(rehearsed.maildir)
            tally = fetch(copy, signer, box, clock=lambda: at + rehearsed.lasted, rules=rules_of(settings))
    if as_json:
        app.emit(_object(edition.slug, scenario.seed, made, rehearsed, tally))
    else:
        _tell(app, edition.subject, made, rehearsed, tally)
    if rehearsed.ended.ending is Ending.STOPPED:
        finish(ExitCode.INTERRUPTED)


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Yield a folder that is removed at the end, also when SIGTERM ends the command."""

    def leave(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, leave)
    try:
        with tempfile.TemporaryDirectory(prefix="mailer-rehearsal-") as folder:
            yield Path(folder)
    finally:
        signal.signal(signal.SIGTERM, before)


def _tell(app: App, subject: str, made: Forecast, rehearsed: Rehearsed, tally: Tally) -> None:
    ended, seen = rehearsed.ended, rehearsed.seen
    app.out(f"Rehearsed '{subject}': {ended.ending.value}" + (f" ({ended.reason})" if ended.reason else ""))
    for line in shown.lines(ended.books):
        app.out(line)
    app.out()
    app.out(
        f"Duration: {duration(rehearsed.lasted)}, retries included"
        f" (rehearsed in {rehearsed.took_seconds:,.1f} s)"
    )
    if made.estimate is None:
        app.out("  no relay is configured, so there are no limits")
    else:
        app.out(
            f"  the first attempt for everyone: {duration(made.estimate.duration)} at the configured limits"
        )
        app.out(f"  the tightest limit is {made.estimate.bottleneck}")
    if seen.messages:
        app.out(
            f"Size: {octets(seen.octets // seen.messages)} per message,"
            f" {octets(seen.largest_octets)} for the largest, {octets(seen.octets)} in total"
        )
    app.out(f"Connections: {seen.connections:,}, {seen.most_connections} at most at a time")
    app.out()
    app.out("What went wrong:")
    for name, number in sorted(seen.faults.items(), key=lambda item: -item[1]):
        app.out(f"  {number:>10,}  {name}")
    if not seen.faults:
        app.out("  nothing")
    app.out(f"Bounced later: {counted(tally.read, 'report')}")
    for effect, number in tally.effects.items():
        app.out(f"  {number:>10,}  {effect.value}")
    app.out(f"Copies: {counted(seen.copies, 'message')} arrived a second time because a reply was lost")


def _object(slug: str, seed: int, made: Forecast, rehearsed: Rehearsed, tally: Tally) -> dict[str, object]:
    ended = rehearsed.ended
    return {
        "issue": slug,
        "seed": seed,
        "ending": ended.ending.value,
        "reason": ended.reason,
        "books": ended.books.as_dict(),
        "lasted_seconds": round(rehearsed.lasted.total_seconds(), 1),
        "first_try_seconds": None
        if made.estimate is None
        else round(made.estimate.duration.total_seconds(), 1),
        "bottleneck": made.estimate.bottleneck if made.estimate else None,
        "took_seconds": round(rehearsed.took_seconds, 1),
        "server": {**asdict(rehearsed.seen), "faults": dict(rehearsed.seen.faults)},
        "returned": {
            "reports": tally.read,
            "effects": {effect.value: number for effect, number in tally.effects.items()},
        },
    }
