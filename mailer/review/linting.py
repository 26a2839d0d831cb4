"""Linting an issue with the newsletter's settings: shared by `lint`, `preview` and `send`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from mailer.config import Settings
from mailer.delivery import editions
from mailer.errors import FindingsError
from mailer.rendering.edition import Edition
from mailer.rendering.lint import Finding, Level, LintReport, lint
from mailer.rendering.lint.layout import SCREENS
from mailer.rendering.lint.linting import waived
from mailer.rendering.lint.places import Places
from mailer.rendering.recipient import Recipient
from mailer.rendering.source import Issue
from mailer.review.spam import SpamScore, spam_score

if TYPE_CHECKING:
    from mailer.database.engine import Database
    from mailer.review.chromium import Excess

    Measure = Callable[[str, int], list[Excess]]
    """Shows HTML on a screen of this width in pixels, and returns the parts that overflow it."""

# With an id like a real subscriber's, so that the message is as long as the one sent.
READER: Final = Recipient(subscriber_id=1, email="reader@example.org", name="Reader")
_NO_DATE: Final = datetime(2000, 1, 1, tzinfo=UTC)
_FIELD: Final = re.compile(
    r"""subscriber(?:\.(\w+)|\[['"]([^'"]+)['"]\])(?:\s*\|\s*(date|number|round|int|float)\b)?"""
)
# Values that these filters accept; the other filters accept any text.
_STAND_INS: Final[dict[str, object]] = {
    "date": "2026-01-31",
    **dict.fromkeys(("number", "round", "int", "float"), 7),
}


def examine(
    settings: Settings,
    issue: Issue,
    edition: Edition,
    message: bytes | None = None,
    *,
    clients: Sequence[str] = (),
) -> LintReport:
    """Lint an issue, its edition and the other arms of its A/B test, without any network access.

    `message` is the edition composed for a reader; by default, for one who has every field.
    `clients` are the email clients to check for; by default, the main ones.
    """
    report = lint(
        issue,
        edition,
        sample_message(settings, edition) if message is None else message,
        settings.newsletter,
        public_url=settings.web.public_url,
        leaving=bool(settings.relays),
        clients=clients,
        today=datetime.now(UTC).date(),
    )
    for arm, source in zip(edition.arms, editions.other_arms(issue), strict=True):
        of_arm = examine(settings, source, arm, clients=clients).findings
        new = [finding for finding in of_arm if finding not in report.findings]
        report = report.with_findings(new, waived(source))
    return report


def refuse_errors(report: LintReport, *, name: str = "") -> None:
    """Raise `FindingsError` if there are errors in an issue that is about to be queued.

    `name` is what `mailer lint` finds it by, if that is not its slug.
    """
    if number := report.count(Level.ERROR):
        raise FindingsError(
            f"lint found {number:,} {'error' if number == 1 else 'errors'}; nothing was queued",
            remedy=f"fix it (mailer lint {name or report.slug}), or send it anyway with --no-lint",
        )


def with_links(report: LintReport, issue: Issue) -> LintReport:
    """Return the report with findings about links that do not work."""
    from mailer.review.links import Life, check_links

    places = Places(issue)
    found = [
        places.finding(
            "dead-link",
            f"{answer.url}: {answer.said}",
            at=answer.url,
            level=Level.ERROR if answer.life is Life.DEAD else Level.WARNING,
            remedy=""
            if answer.life is Life.DEAD
            else "check it in a browser: it does not respond to programs",
        )
        for answer in check_links(report.addresses)
        if answer.life is not Life.ALIVE
    ]
    return report.with_findings(found, waived(issue))


def with_browser(report: LintReport, issue: Issue, html: str, measure: Measure) -> LintReport:
    """Return the report with the browser's findings about width, unless lint itself has some."""
    if any(finding.check == "too-wide" for finding in report.findings):
        return report
    places, found = Places(issue), dict[str, Finding]()
    for screen, readers in SCREENS.items():
        for one in measure(html, screen):
            words = " ".join(one.text.split())
            what = f"'{words[:40]}'" if words else f"<{one.tag}>"
            if what not in found:
                found[what] = places.finding(
                    "too-wide",
                    f"Chromium: {what} needs a screen of {one.needs} px; {readers} have {screen}",
                    # Shorter words may be anywhere.
                    at=words if len(words) > 3 else "",
                )
    return report.with_findings(found.values(), waived(issue))


def with_audience(
    report: LintReport, issue: Issue, edition: Edition, settings: Settings, database: Database, segment: str
) -> tuple[LintReport, int]:
    """Return the report with fields that subscribers lack, and how many subscribers were checked."""
    # Imported here, because linting without a database has to be quick.
    from mailer.delivery import enqueueing
    from mailer.review.filling import unfit

    unsigned = replace(settings, dkim=())
    composer = editions.composer(unsigned, edition, editions.ANY_ISSUE, editions.POWERLESS)
    with database.reading() as connection:
        condition = enqueueing.audience_condition(settings, segment)
        checked, lacking = unfit(connection, composer, condition, at=datetime.now(UTC))
    places = Places(issue)
    found = []
    for one in lacking:
        many = f"{one.count:,} of {checked:,} subscribers, such as {', '.join(one.examples)}"
        missing = one.field.startswith("subscriber.") and "is missing" in one.reason
        found.append(
            places.finding(
                "undefined-field",
                f"'{one.field}' is missing for {many}" if missing else f"{one.reason} ({many})",
                at=one.field,
                remedy=f'write {{{{ {one.field} | default("…") }}}}, or fill the field' if missing else "",
            )
        )
    return report.with_findings(found, waived(issue)), checked


def with_spam_score(
    report: LintReport, issue: Issue, message: bytes, *, options: Sequence[str] = ()
) -> tuple[LintReport, SpamScore | None]:
    """Return the report with SpamAssassin's score, if spamc and spamd are available."""
    score = spam_score(message, options=options)
    if score is None or score.score < score.required:
        return report, score
    rules = ", ".join(f"{name} {part:g}" for name, part in score.rules if part > 0)
    finding = Places(issue).finding(
        "spam-score", f"SpamAssassin gives {score.score:g}, spam from {score.required:g} on: {rules}"
    )
    return report.with_findings([finding], waived(issue)), score


def sample_message(settings: Settings, edition: Edition, reader: Recipient | None = None) -> bytes:
    """Compose the edition for a reader; by default, for one who has a value for every field.

    The same input always gives the same octets, since the date is the issue's own. Links lead nowhere.
    """
    composer = editions.composer(settings, edition, editions.ANY_ISSUE, editions.POWERLESS)
    at = datetime.fromisoformat(edition.date).replace(tzinfo=UTC) if edition.date else _NO_DATE
    return composer.compose(reader or sample_reader(edition), at).content


def sample_reader(edition: Edition) -> Recipient:
    """Return a reader who has a value for each field of the edition, of a type that its filter accepts."""
    attributes: dict[str, object] = {}
    for found in _FIELD.finditer("\n".join((edition.subject, edition.html, edition.text))):
        name, stand_in = found[1] or found[2], _STAND_INS.get(found[3] or "")
        if stand_in is not None or name not in attributes:
            attributes[name] = stand_in or "Example"
    return replace(READER, attributes=attributes)
