"""An issue examined with the newsletter's settings: what `lint`, `preview` and `send` share."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from mailer.config import Settings
from mailer.delivery import dispatch
from mailer.errors import RecipientError
from mailer.rendering.edition import Edition
from mailer.rendering.lint import Report, lint
from mailer.rendering.message import Composer, Recipient
from mailer.rendering.source import Issue

_READER: Final = Recipient(subscriber_id=0, email="reader@example.org", name="Reader")
_NO_DATE: Final = datetime(2000, 1, 1, tzinfo=UTC)
# For a field that the issue wants and nobody has here: one of these goes through any filter.
_STAND_INS: Final = ("Example", "2026-01-31", 7)


def examine(settings: Settings, issue: Issue, edition: Edition) -> Report:
    """Return what is wrong with an issue and its edition; nothing is fetched or asked."""
    return lint(
        issue,
        edition,
        sample_message(settings, edition),
        settings.newsletter,
        public_url=settings.web.public_url,
        leaving=bool(settings.relays),
    )


def sample_message(settings: Settings, edition: Edition) -> bytes:
    """Return one message of the edition for a reader who has a value for every field."""
    composer = dispatch.composer(settings, edition, dispatch.ANY_ISSUE, dispatch.POWERLESS)
    at = datetime.fromisoformat(edition.date).replace(tzinfo=UTC) if edition.date else _NO_DATE
    failure: RecipientError | None = None
    for stand_in in _STAND_INS:
        try:
            return _composed(composer, stand_in, at)
        except RecipientError as error:
            failure = error
    assert failure is not None
    raise failure


def _composed(composer: Composer, stand_in: object, at: datetime) -> bytes:
    reader = _READER
    while True:
        try:
            return composer.compose(reader, at).content
        except RecipientError as error:
            name = error.field.removeprefix("subscriber.")
            if name == error.field or name in reader.attributes:
                raise
            reader = replace(reader, attributes={**reader.attributes, name: stand_in})
