"""`mailer bounces`: read reports of bounces and complaints, and show their effects."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import BinaryIO

import click

from mailer.bounces.batch import record
from mailer.bounces.boxes.configured import boxes_of, rules_of
from mailer.bounces.boxes.fetch import Box, Tally, fetch
from mailer.bounces.boxes.lmtp import Intake, serve
from mailer.bounces.boxes.watching import OpenBox
from mailer.bounces.boxes.watching import watch as watch_boxes
from mailer.bounces.reading.reader import read_report
from mailer.bounces.reading.report import BounceReport
from mailer.bounces.reclassify import reclassify
from mailer.bounces.record import MAX_RAW_OCTETS, Recorded
from mailer.bounces.undo import undo
from mailer.cli.app import (
    App,
    Group,
    Number,
    RowNumber,
    dry_run_option,
    finish,
    json_option,
    limit_option,
    pass_app,
)
from mailer.cli.bounce_report import shown_report
from mailer.errors import ConfigError, ExitCode, MailboxError, MailerError
from mailer.printable import counted
from mailer.reports import bounces as reports


@click.group(cls=Group)
def bounces() -> None:
    """Read bounces and complaints, and show their effects."""


@bounces.command("undo")
@click.argument("what", metavar="RUN|ISSUE|CLASS")
@click.option("--reason", default="", help="Why it was a mistake; kept in the ledger. Required without -n.")
@dry_run_option
@json_option
@pass_app
def undo_command(app: App, what: str, reason: str, dry_run: bool, as_json: bool) -> None:
    """Restore everyone who bounced in a run, an issue or a bounce class.

    Use it for rejections that were your fault, not theirs. People who unsubscribed or complained are not
    restored.
    """
    if not (reason or dry_run):
        raise click.UsageError("give a reason with --reason, or use --dry-run to see what would happen")
    with app.database.transaction() as connection:
        done = undo(connection, what, reason=reason, at=_now(), dry_run=dry_run)
    restored = [one for one in done if one.status is not None]
    if as_json:
        app.emit({"restored": len(restored), "kept_out": len(done) - len(restored), "dry_run": dry_run})
        return
    app.out(f"{counted(len(restored), 'subscriber')} {'would be ' if dry_run else ''}restored")
    for refusal, number in Counter(one.refusal for one in done if one.status is None).items():
        app.out(f"{number:,} not restored: {refusal}")


@bounces.command("fetch")
@click.option("--watch", is_flag=True, help="Keep reading until you stop it; uses IMAP IDLE where possible.")
@click.option(
    "--interval",
    type=Number(1, 86_400),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="With --watch: how often to look, where IMAP IDLE is not possible.",
)
@json_option
@pass_app
def fetch_command(app: App, watch: bool, interval: float, as_json: bool) -> None:
    """Read every configured mailbox once.

    Messages are marked as seen once they are stored. POP3 has no such marks, so there they are deleted.
    """
    boxes = boxes_of(app.settings)
    if not boxes:
        raise ConfigError("no mailbox is configured", remedy="set bounces.maildirs or [[bounces.boxes]]")
    rules = rules_of(app.settings)

    def read(box: Box) -> Tally:
        return fetch(app.database, app.signer, box, clock=_now, rules=rules)

    if watch:
        for tally in watch_boxes(boxes, read, seconds=interval):
            if tally.read or tally.failures:
                _tell(app, tally, as_json=as_json)
        return
    tally = _read_each(boxes, read)
    _tell(app, tally, as_json=as_json)
    finish(ExitCode.PARTIAL if tally.failures else ExitCode.DONE)


def _read_each(boxes: Sequence[OpenBox], read: Callable[[Box], Tally]) -> Tally:
    """Read each box once. A mailbox that cannot be reached does not stop the others."""
    tally = Tally()
    for open_box in boxes:
        try:
            with open_box() as box:
                tally.merge(read(box))
        except MailboxError as error:
            tally.failures.append(str(error))
    return tally


@bounces.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    default=8624,
    show_default=True,
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="The port to listen on; 0 picks a free one.",
)
@pass_app
def lmtp(app: App, host: str, port: int) -> None:
    """Accept reports over LMTP until you stop it.

    Only recipients at the bounce domain, [bounces] domain, are accepted.
    """
    intake = Intake(
        app.database,
        app.signer,
        bounce_domain=app.settings.bounce_domain,
        rules=rules_of(app.settings),
        clock=_now,
        told=lambda recorded: app.out(_told(recorded)),
    )
    asyncio.run(serve(intake, host, port, ready=lambda bound: app.say(f"LMTP on {host}:{bound}")))


@bounces.command()
@pass_app
def pipe(app: App) -> None:
    """Record one message from standard input.

    Use this as the command to which your mail server pipes bounces.
    """
    raw = sys.stdin.buffer.read(MAX_RAW_OCTETS)
    # A mail server that cannot write all of its message counts the delivery as failed.
    while sys.stdin.buffer.read(MAX_RAW_OCTETS):
        continue
    app.out(
        _told(record(app.database, app.signer, raw, source="pipe", at=_now(), rules=rules_of(app.settings)))
    )


@bounces.command()
@click.argument("file", type=click.File("rb", lazy=True))
@json_option
@pass_app
def parse(app: App, file: BinaryIO, as_json: bool) -> None:
    """Show the report in the message FILE (or `-`). Nothing is stored, and no config.toml is needed."""
    report = read_report(file.read(MAX_RAW_OCTETS))
    if as_json:
        app.emit(_parsed(report))
        return
    app.out(report.kind.value)
    for recipient in report.recipients:
        verdict = recipient.verdict
        judged = (
            "-" if verdict is None else f"{'hard' if verdict.hard else 'soft'} {verdict.bounce_class or '-'}"
        )
        app.out(f"  {recipient.address or '-'}  {judged}  {recipient.status or '-'}  {recipient.diagnostic}")


@bounces.command("list")
@click.option(
    "--outcome", default="", metavar="WORD", help="Only these: applied, ignored, unmatched or foreign."
)
@click.option("--unmatched", is_flag=True, help="Same as --outcome unmatched.")
@click.option("--kind", default="", metavar="WORD", help="Only these: bounce, complaint, opt_out, delayed …")
@limit_option("reports")
@json_option
@pass_app
def list_command(app: App, outcome: str, unmatched: bool, kind: str, limit: int, as_json: bool) -> None:
    """List the newest reports."""
    with app.database.reading() as connection:
        wanted = "unmatched" if unmatched else outcome
        rows = reports.bounce_rows(connection, outcome=wanted, kind=kind, limit=limit)
    if as_json:
        app.emit({"reports": [asdict(row) for row in rows]})
        return
    for row in rows:
        app.out(
            f"{row.id:>6}  {row.received_at:%Y-%m-%d %H:%M}  {row.outcome:<9}  {row.kind:<11}"
            f"  {'hard' if row.hard else '':<4}  {row.bounce_class or '-':<16}  {row.recipient or '-'}"
        )
    if not rows:
        app.say("no reports")


@bounces.command()
@click.argument("report_id", type=RowNumber(), metavar="NUMBER")
@click.option("--raw", is_flag=True, help="Write the original message.")
@json_option
@pass_app
def show(app: App, report_id: int, raw: bool, as_json: bool) -> None:
    """Show one report."""
    with app.database.reading() as connection:
        found = reports.bounce_row(connection, report_id)
    if found is None:
        raise MailerError(
            f"there is no report {report_id}", remedy="list the reports with: mailer bounces list"
        )
    row, octets = found
    if raw:
        sys.stdout.buffer.write(octets)
        return
    if as_json:
        app.emit({"report": asdict(row)})
        return
    for name, value in {**asdict(row), **row.details}.items():
        if name != "details" and value not in ("", None):
            app.out(f"{name:<14}  {value}")


@bounces.command("reclassify")
@dry_run_option
@json_option
@pass_app
def reclassify_command(app: App, dry_run: bool, as_json: bool) -> None:
    """Classify all stored reports again with the rules of this version."""
    changes = reclassify(app.database, app.signer, at=_now(), rules=rules_of(app.settings), dry_run=dry_run)
    shown: list[dict[str, object]] = []
    count = 0
    for change in changes:
        count += 1
        if as_json:
            shown.append({"before": asdict(change.before), "after": asdict(change.after)})
        else:
            note = "  was suppressed; please check" if change.no_longer_hard else ""
            app.out(f"{_told(change.before)}\n  now: {_told(change.after)}{note}")
    if as_json:
        app.emit({"dry_run": dry_run, "changes": shown})
    else:
        app.say(f"{count} of the stored reports {'would change' if dry_run else 'changed'}")


@bounces.command("report")
@json_option
@pass_app
def report_command(app: App, as_json: bool) -> None:
    """Count bounces by class, provider and issue."""
    providers = app.settings.provider_of_domain
    with app.database.reading() as connection:
        found = reports.bounce_report(connection, providers=providers)
    if as_json:
        app.emit(asdict(found))
        return
    for line in shown_report(found):
        app.out(line)


def _tell(app: App, tally: Tally, *, as_json: bool) -> None:
    for failure in tally.failures:
        app.say(failure)
    if as_json:
        app.emit(
            {
                "read": tally.read,
                "duplicates": tally.duplicates,
                "outcomes": dict(tally.outcomes),
                "effects": dict(tally.effects),
                "failures": tally.failures,
            }
        )
        return
    counts = [*tally.outcomes.items(), *tally.effects.items()]
    parts = [f"{tally.read} read", *(f"{number} {name.value}" for name, number in counts)]
    if tally.duplicates:
        parts.append(f"{tally.duplicates} already known")
    if tally.failures:
        parts.append(f"{len(tally.failures)} not recorded and left in place")
    app.out(", ".join(parts))


def _told(recorded: Recorded) -> str:
    words = [f"report {recorded.report_id}:", recorded.kind, recorded.bounce_class or ""]
    words += [
        "hard" if recorded.hard else "",
        recorded.recipient,
        recorded.outcome.value,
        recorded.effect.value,
    ]
    words.append("(already known)" if recorded.duplicate else "")
    return " ".join(word for word in words if word)


def _parsed(report: BounceReport) -> dict[str, object]:
    return {
        "kind": report.kind.value,
        "recipients": [
            {
                "address": recipient.address,
                "original_address": recipient.original_address,
                "action": recipient.action,
                "status": recipient.status,
                "code": recipient.code,
                "diagnostic": recipient.diagnostic,
                "remote": recipient.remote,
                "class": recipient.verdict.bounce_class if recipient.verdict else None,
                "hard": recipient.verdict.hard if recipient.verdict else None,
            }
            for recipient in report.recipients
        ],
        "message_id": report.message_id,
        "feedback_type": report.feedback_type,
        "reporter": report.reporter,
        "tokens": list(report.envelope_tokens),
    }


def _now() -> datetime:
    return datetime.now(UTC)
