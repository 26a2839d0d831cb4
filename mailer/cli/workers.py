"""`mailer workers`: show which processes are sending."""

from __future__ import annotations

from typing import Any

import click

from mailer.cli.app import App, Command, json_option, pass_app
from mailer.delivery import issues, runs


@click.command(cls=Command)
@json_option
@pass_app
def workers(app: App, as_json: bool) -> None:
    """Show the processes that are sending: what, on which machine, and since when.

    On PostgreSQL this shows those of all machines, and how long ago each last reached the database. A
    `mailer worker` with nothing to send is not listed.
    """
    with app.database.reading() as session:
        slugs = {issue.id: issue.slug for issue in issues.issues(session)}
        living = runs.sending(session)
    if as_json:
        found: list[dict[str, Any]] = [
            {
                "issue": slugs.get(run.issue_id),
                "host": run.host,
                "pid": run.pid,
                "since": run.started_at.isoformat(),
                "silent_seconds": round(run.silent_seconds, 1),
            }
            for run in living
        ]
        app.emit({"workers": found})
        return
    for run in living:
        silent = f", silent for {run.silent_seconds:.0f} s" if run.silent_seconds >= 2 else ""
        since = f"{run.started_at.astimezone():%Y-%m-%d %H:%M:%S}"
        app.out(f"{run.host}  process {run.pid}  {slugs.get(run.issue_id, '')} since {since}{silent}")
    if not living:
        app.say("nothing is being sent")
