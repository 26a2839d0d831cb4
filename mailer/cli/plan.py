"""`mailer plan`: show what sending an issue would do."""

from __future__ import annotations

from datetime import timedelta

import click

from mailer.cli import books as shown
from mailer.cli.app import App, Command, json_option, pass_app
from mailer.delivery import editions
from mailer.review import planning
from mailer.review.planning import Forecast


@click.command(cls=Command)
@click.argument("issue")
@click.option(
    "--to",
    "--segment",
    "segment",
    default="",
    metavar="SEGMENT",
    help="Only these subscribers, e.g. 'tag:vip'.",
)
@click.option(
    "--reply-time",
    type=click.IntRange(min=1),
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
    issue, whose audience is frozen, it shows what is left to send.
    """
    settings = app.settings
    edition = editions.build(settings, editions.find_source(settings, issue))
    made = planning.forecast(settings, app.database, edition, segment, reply_seconds=reply_time / 1000)
    if as_json:
        app.emit(_object(made))
        return
    _tell(app, made)


def duration(time: timedelta) -> str:
    """Return a duration as people write it: `2 h 10 min`, `45 s`."""
    seconds = round(time.total_seconds())
    if seconds < 1:
        return "less than a second"
    if seconds < 120:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} days {hours % 24} h"


def octets(number: int) -> str:
    """Return a number of octets in KB, MB or GB."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if number >= size:
            return f"{number / size:,.1f} {unit}"
    return f"{number} octets"


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
            f" ({made.estimate.per_second:,.0f} a second)"
        )
        app.out(f"  the tightest limit is {made.estimate.bottleneck}")
        app.out(f"  assuming {made.reply_seconds * 1000:.0f} ms per reply, without retries")


def _tell_audience(app: App, made: Forecast) -> None:
    people = made.headcount
    app.out(f"Audience: {people.mailed:,} of {people.subscribers:,} subscribers")
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


def _object(made: Forecast) -> dict[str, object]:
    return {
        "issue": made.slug,
        "subject": made.subject,
        "state": made.known.state.value if made.known else None,
        "subscribers": made.headcount.subscribers,
        "audience": made.books.audience if made.books else made.headcount.mailed,
        "left_out": dict(made.headcount.left_out) if made.books is None else {},
        "books": made.books.as_dict() if made.books else None,
        "to_send": made.to_send,
        "domains": {
            "count": made.domains.count,
            "top": [{"domain": domain, "messages": number} for domain, number in made.domains.top],
            "by_provider": dict(made.domains.by_provider),
        },
        "sizes": {
            "sampled": made.sizes.sampled,
            "mean_octets": made.sizes.mean,
            "largest_octets": made.sizes.largest,
            "total_octets": made.sizes.mean * made.to_send,
            "unfit": list(made.sizes.unfit),
        },
        "estimate": None
        if made.estimate is None
        else {
            "seconds": round(made.estimate.duration.total_seconds(), 1),
            "per_second": round(made.estimate.per_second, 1),
            "bottleneck": made.estimate.bottleneck,
            "reply_seconds": made.reply_seconds,
        },
    }
