"""`mailer send --canary`: the option, and the steps of a canary."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import click
from msgspec import structs

from mailer.cli.app import App
from mailer.config import parse_share
from mailer.delivery.canary import Steps
from mailer.delivery.ending import Ended
from mailer.errors import MailboxError
from mailer.rendering.edition import Edition


class ShareType(click.ParamType[float]):
    """A share of the audience, such as `1%`."""

    name = "share"

    def convert(
        self, value: object, parameter: click.Parameter | None, context: click.Context | None
    ) -> float:
        """Return the number from 0 to 1."""
        try:
            share = parse_share(value)
            number = float(share) if isinstance(share, (str, float, int)) else 0.0
        except ValueError as error:
            self.fail(str(error), parameter, context)
        if not 0 < number <= 1:
            self.fail(
                f"'{value}' must be more than 0% and less than 100%, for example 1%", parameter, context
            )
        return number


def steps(app: App, send: Callable[[], Ended]) -> Steps:
    """Return the functions by which a canary sends, fetches reports and prints notes."""

    def send_to_seed(edition: Edition, address: str) -> None:
        # Only a canary has seeds; a run without one starts faster.
        from mailer.review import linting, sample

        sample.send_test(
            app.settings, edition, structs.replace(linting.sample_reader(edition), email=address)
        )

    return Steps(send, send_to_seed, lambda: fetch(app), app.say)


def fetch(app: App) -> None:
    """Read the configured mailboxes, so that new reports count."""
    # Only a canary reads mailboxes; a run without one starts faster.
    from mailer.bounces.boxes.configured import boxes_of, rules_of
    from mailer.bounces.boxes.fetch import fetch

    for open_box in boxes_of(app.settings):
        try:
            with open_box() as box:
                fetch(
                    app.database,
                    app.signer,
                    box,
                    clock=lambda: datetime.now(UTC),
                    rules=rules_of(app.settings),
                )
        except MailboxError as error:
            app.say(f"canary: {error}")
