"""`mailer workers`: show which processes are sending, and which wait for work."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click
from sqlalchemy import Connection

from mailer.cli.app import App, Command, json_option, pass_app
from mailer.cluster import members
from mailer.delivery import issues, runs


@dataclass(frozen=True, slots=True)
class _Shown:
    """A run, or a worker that has none."""

    issue: str | None
    host: str
    pid: int
    since: datetime
    silent_seconds: float
    name: str = ""


@click.command(cls=Command)
@json_option
@pass_app
def workers(app: App, as_json: bool) -> None:
    """Show the processes that are sending: what, on which machine, and since when.

    A `mailer worker` with nothing to send is idle. On PostgreSQL this shows the processes of all machines,
    and how long ago each last reached the database.
    """
    with app.database.reading() as connection:
        found = _shown(connection)
    if as_json:
        app.emit({"workers": [_fields(one) for one in found]})
        return
    for one in found:
        silent = f", silent for {one.silent_seconds:.0f} s" if one.silent_seconds >= 6 else ""
        host = f"{one.host} ({one.name})" if one.name not in ("", one.host) else one.host
        since = f"{one.since.astimezone():%Y-%m-%d %H:%M:%S}"
        app.out(f"{host}  process {one.pid}  {one.issue or 'idle'} since {since}{silent}")
    if not any(one.issue for one in found):
        app.say("nothing is being sent")


def _shown(connection: Connection) -> list[_Shown]:
    slugs = {issue.id: issue.slug for issue in issues.issues(connection)}
    living = members.living(connection)
    names = {(member.place, member.pid): member.name for member in living}
    sending = runs.sending(connection)
    busy = {(run.place, run.pid) for run in sending}
    return [
        *(
            _Shown(
                slugs.get(run.issue_id),
                run.host,
                run.pid,
                run.started_at,
                run.silent_seconds,
                names.get((run.place, run.pid), ""),
            )
            for run in sending
        ),
        *(
            _Shown(None, one.host, one.pid, one.started_at, one.silent_seconds, one.name)
            for one in living
            if (one.place, one.pid) not in busy
        ),
    ]


def _fields(one: _Shown) -> dict[str, Any]:
    return {
        "issue": one.issue,
        "host": one.host,
        "pid": one.pid,
        "since": one.since.isoformat(),
        "silent_seconds": round(one.silent_seconds, 1),
    }
