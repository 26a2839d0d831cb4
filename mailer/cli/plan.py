"""`mailer plan`: show what sending an issue would do."""

from __future__ import annotations

import click

from mailer.cli import books as shown
from mailer.cli import waves
from mailer.cli.app import App, Command, json_option, pass_app, segment_option
from mailer.cli.units import duration, octets
from mailer.delivery import editions, enqueueing
from mailer.printable import counted
from mailer.review import planning
from mailer.review.planning import Forecast


@click.command(cls=Command)
@click.argument("issue")
@segment_option
@click.option(
    "--reply-time",
    type=click.IntRange(1, 3_600_000),
    default=100,
    show_default=True,
    metavar="MS",
    help="Milliseconds that the relay takes to answer each message.",
)
@json_option
@pass_app
def plan(app: App, issue: str, segment: str, reply_time: int, as_json: bool) -> None:
    """Show what sending ISSUE would do, without changing anything.

    The plan lists who gets the issue, who doesn't and why, the largest domains, the size of the
    messages, and how long sending takes within the limits of [relays] and [providers]. For a queued
    issue, whose audience is frozen, it shows the remaining deliveries.
    """
    settings = app.settings
    path = editions.find_source(settings, issue)
    edition = enqueueing.frozen(app.database, path.stem) or editions.build(settings, path)
    made = planning.forecast(settings, app.database, edition, segment, reply_seconds=reply_time / 1000)
    if as_json:
        app.emit(made.as_dict())
        return
    _tell(app, made)


def _tell(app: App, made: Forecast) -> None:
    app.out(f"'{made.subject}' ({made.slug})")
    app.out()
    if made.known is None:
        _tell_audience(app, made)
    else:
        app.out(
            f"In the queue since {made.known.created_at.astimezone():%Y-%m-%d %H:%M}",
        )
        app.out(f"State: {made.known.state.value}" + (f" ({made.known.reason})" if made.known.reason else ""))
        assert made.books is not None
        for line in shown.lines(made.books):
            app.out(line)
    if not made.to_send:
        app.out("There is nothing to send.")
        return
    app.out()
    app.out(f"Domains: {made.domains.count:,}")
    for domain, number in made.domains.top:
        app.out(f"  {number:>10,}  {number / made.to_send:6.1%}  {domain}")
    app.out()
    _tell_sizes(app, made)
    app.out()
    if made.estimate is None:
        app.out("Duration: unknown; no relay is configured, so messages stay on this machine.")
    else:
        app.out(
            f"Duration: {duration(made.estimate.duration)} for the first attempt for everyone"
            f" ({made.estimate.per_second:,.{0 if made.estimate.per_second >= 1 else 4}f} a second)"
        )
        app.out(f"  the tightest limit is {made.estimate.bottleneck}")
        app.out(f"  assuming {made.reply_seconds * 1000:.0f} ms per reply, without retries")
    for one in made.warming_up:
        app.out(f"  {one}")
    for line in waves.lines(made.waves):
        app.out(line)
    if made.last_day is not None:
        app.out(f"  the last message can leave on {made.last_day:%Y-%m-%d}")


def _tell_audience(app: App, made: Forecast) -> None:
    people = made.headcount
    app.out(f"Audience: {people.mailed:,} of {counted(people.subscribers, 'subscriber')}")
    for reason, number in people.left_out.items():
        app.out(f"  {number:>10,}  left out: {reason}")


def _tell_sizes(app: App, made: Forecast) -> None:
    found = made.sizes
    if found.mean:
        app.out(
            f"Size: {octets(found.mean)} per message, {octets(found.largest)} for the largest"
            f" of {found.sampled} sampled; {octets(found.mean * made.to_send)} in total"
        )
    if found.unfit:
        app.out(f"{len(found.unfit)} of {found.sampled} sampled messages cannot be composed:")
        for line in found.unfit[:5]:
            app.out(f"  {line}")
