"""The checks before an issue is sent or scheduled by another program."""

from __future__ import annotations

from pathlib import Path

from mailer.audience.vocabulary import empty_audience
from mailer.config import Settings
from mailer.database.engine import Database
from mailer.delivery import enqueueing, requirements
from mailer.errors import RefusedError
from mailer.rendering.edition import Edition
from mailer.rendering.source import read_issue
from mailer.review import filling, linting, planning
from mailer.review.planning import Plan


def check_release(
    settings: Settings, database: Database, path: Path, edition: Edition, segment: str, *, lint: bool = True
) -> Plan:
    """Return the plan of an issue that may be sent now.

    Raises `RefusedError` if the configuration is not ready, the issue is queued already, nobody would get it
    or it cannot be composed for someone, and `FindingsError` if lint finds errors. Without `lint`, the last
    two are not checked.
    """
    requirements.check_ready(settings)
    plan = planning.plan(settings, database, edition, segment)
    if plan.known is not None:
        raise RefusedError(f"{plan.slug} is queued already", remedy="correct it with: mailer amend")
    if not plan.audience:
        with database.reading() as connection:
            raise empty_audience(connection, segment)
    if lint:
        linting.refuse_errors(linting.examine(settings, read_issue(path), edition))
        condition = enqueueing.audience_condition(settings, segment)
        filling.compose_some(settings, database, edition, condition)
    return plan
