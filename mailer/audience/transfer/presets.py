"""The meaning of columns in files from other services, and in the operator's own formats."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from mailer.address import shown
from mailer.audience.transitions import OUT
from mailer.config import ImportFile
from mailer.database.tables import SubscriberStatus

_U: Final = SubscriberStatus.UNSUBSCRIBED
_B: Final = SubscriberStatus.BOUNCED
_C: Final = SubscriberStatus.COMPLAINED
_ANY: Final = "*"
_FIELDS: Final = frozenset({"email", "name", "tags", "joined"})
_NO: Final = ("false", "0", "no", "nein", "non", "nee", "nie", "não", "n", "never", "none", "null", "-")
_YES: Final = ("true", "1", "yes")


@dataclass(frozen=True, slots=True)
class Out:
    """The reason why a service did not email a person.

    `status` is our status for it, or None if there was no opt-out (for example, never confirmed). `note`
    quotes the file; `at` is when it happened, if the file says so.
    """

    status: SubscriberStatus | None
    note: str
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class OutRule:
    """A column that says who opted out: lower-case values (`*` for any), and the status for each.

    `dated` is the column with the time. It must be the time of the opt-out itself, not of a later change.
    """

    column: str
    means: Mapping[str, SubscriberStatus | None]
    dated: str = ""
    no: frozenset[str] = frozenset()
    """Values that mean no."""


@dataclass(frozen=True, slots=True)
class Preset:
    """The meaning of columns whose headings don't already say it.

    The first matching rule in `out` says why a person is out. Missing columns are ignored unless they are
    `required`.
    """

    email: str = ""
    name: str = ""
    tags: str = ""
    joined: str = ""
    """The column of sign-up dates."""
    attributes: str = ""
    """A column that holds a JSON object; each of its fields becomes an attribute."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Attribute names by column."""
    out: tuple[OutRule, ...] = ()
    ignored: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()
    one_of: frozenset[str] = frozenset()
    """Columns one of which must be in the file: without them, people who left would seem to be active."""

    def with_columns(self, named: Mapping[str, str], skipped: Iterable[str] = ()) -> Preset:
        """Return the preset with columns named: `email`, `name`, `tags`, `joined` or any attribute.

        In a column named as `unsubscribed`, `bounced` or `complained`, any value but "no" means yes. Columns
        that are named or skipped must be in the file.
        """
        renamed = {column: key for key, column in named.items() if key not in _FIELDS and key not in OUT}
        skipped = frozenset(skipped)
        out = tuple(
            OutRule(column, {_ANY: SubscriberStatus(key)}, dated=column, no=frozenset(_NO))
            for key, column in named.items()
            if key in OUT
        )
        return replace(
            self,
            out=(*out, *self.out),
            joined=named.get("joined", self.joined),
            email=named.get("email", self.email),
            name=named.get("name", self.name),
            tags=named.get("tags", self.tags),
            renamed={**self.renamed, **renamed},
            ignored=self.ignored - set(renamed) | skipped,
            required=self.required | set(named.values()) | skipped,
        )

    @property
    def columns(self) -> frozenset[str]:
        """The columns that say who opted out, and when."""
        return frozenset(filter(None, (name for rule in self.out for name in (rule.column, rule.dated))))

    def why_out(self, cells: Mapping[str, str]) -> Out | None:
        """Return why the service would not have emailed this person, or None."""
        for rule in self.out:
            cell = cells.get(rule.column, "").strip()
            if not cell or cell.lower() in rule.no:
                continue
            value = cell.lower() if cell.lower() in rule.means else _ANY
            if value in rule.means:
                return Out(
                    rule.means[value],
                    f"{rule.column}: {shown(cell, 100)}",
                    parse_instant(cells.get(rule.dated, "")),
                )
        return None


def parse_instant(cell: str) -> datetime | None:
    """Return a date as exports write it (ISO 8601 or 31.12.2025; without a zone, UTC), or None.

    Also None for ambiguous dates such as 01/02/2025, which is in January for some and February for others.
    """
    cell = cell.strip()
    if found := _GERMAN.fullmatch(cell):
        cell = f"{found['year']}-{found['month']:0>2}-{found['day']:0>2}{found['time'] or ''}"
    try:
        at = datetime.fromisoformat(cell)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


_GERMAN: Final = re.compile(
    r"(?P<day>\d{1,2})\.(?P<month>\d{1,2})\.(?P<year>\d{4})(?P<time>[ T]\d{2}:\d{2}(:\d{2})?)?"
)
OWN_HEADER: Final = ("email", "name", "status", "tags", "joined")
"""The first columns of every CSV file that we export."""
JSON_COLUMN: Final = " (json)"
"""The suffix of exported columns whose cells are JSON, so that numbers stay numbers."""
PLAIN: Final = Preset()
PRESETS: Final[Mapping[str, Preset]] = {
    "mailer": Preset(
        email="email",
        name="name",
        tags="tags",
        attributes="attributes",
        out=(
            OutRule(
                "status",
                {"unsubscribed": _U, "bounced": _B, "complained": _C, "pending": None, "erased": None},
            ),
        ),
        joined="joined",
    ),
    "mailchimp": Preset(
        tags="TAGS",
        out=(
            OutRule("UNSUB_REASON", {"spam": _C, "abuse": _C}, dated="UNSUB_TIME"),
            OutRule("UNSUB_TIME", {_ANY: _U}, dated="UNSUB_TIME"),
            OutRule("CLEAN_TIME", {_ANY: _B}, dated="CLEAN_TIME"),
        ),
        joined="CONFIRM_TIME",
        ignored=frozenset(
            {
                "LEID",
                "EUID",
                "CONFIRM_IP",
                "OPTIN_IP",
                "OPTIN_TIME",
                "UNSUB_CAMPAIGN_TITLE",
                "UNSUB_CAMPAIGN_ID",
                "UNSUB_REASON_OTHER",
                "CLEAN_CAMPAIGN_TITLE",
                "CLEAN_CAMPAIGN_ID",
            }
        ),
    ),
    "listmonk": Preset(
        attributes="attributes",
        # updated_at changes with every later edit, so it does not say since when.
        out=(OutRule("status", {"blocklisted": _U, "disabled": None}),),
        joined="created_at",
        ignored=frozenset({"uuid", "id", "updated_at"}),
    ),
    "substack": Preset(joined="created_at", out=(OutRule("email_disabled", dict.fromkeys(_YES, _U)),)),
    "ghost": Preset(
        tags="labels",
        out=(
            OutRule("subscribed_to_emails", dict.fromkeys(("false", "0", "no"), _U)),
            OutRule("deleted_at", {_ANY: None}),
        ),
        joined="created_at",
        ignored=frozenset({"id", "stripe_customer_id"}),
    ),
    "buttondown": Preset(
        tags="tags",
        attributes="metadata",
        out=tuple(
            OutRule(
                column,
                {
                    "unsubscribed": _U,
                    "blocked": _U,
                    "undeliverable": _B,
                    "complained": _C,
                    "unactivated": None,
                    "removed": None,
                    "spammy": None,
                },
            )
            for column in ("type", "subscriber_type")
        ),
        ignored=frozenset({"id"}),
    ),
    "keila": Preset(
        attributes="Data",
        # Keila exported no status at first.
        out=(OutRule("Status", {"unsubscribed": _U, "unreachable": _B}),),
        ignored=frozenset({"External ID"}),
        required=frozenset({"Status"}),
    ),
    "phplist": Preset(
        # Recent versions say "subscriber", older ones "user". phpList blacklists people who unsubscribe; an
        # address that bounces too often becomes unconfirmed or blacklisted, as the operator chose.
        out=tuple(
            OutRule(f"Is this {who} {state}", means)
            for state, means in (
                ("blacklisted", dict.fromkeys(_YES, _U)),
                ("confirmed", dict.fromkeys(("0", "false", "no"), None)),
            )
            for who in ("subscriber", "user")
        ),
        joined="Entered",
        ignored=frozenset(
            {
                "id",
                "ID",
                "Last Modified",
                "List Membership",
                "Password",
                "Foreign Key",
                *(f"Did this {who} manually confirm" for who in ("subscriber", "user")),
                *(f"Number of bounces on this {who}" for who in ("subscriber", "user")),
                *(f"Send this {who} HTML emails" for who in ("subscriber", "user")),
                "Unique ID for subscriber",
                "Unique ID for User",
                "Is this account disabled?",
                "RSS Frequency",
                "Number of bounces",
                "Additional data",
            }
        ),
        one_of=frozenset({"Is this subscriber blacklisted", "Is this user blacklisted"}),
    ),
}


def preset_of(file: ImportFile) -> Preset:
    """Return the preset for an [imports.NAME] table of config.toml."""
    means: dict[str, SubscriberStatus | None] = {
        value.lower(): status
        for values, status in (
            (file.unsubscribed, _U), (file.bounced, _B), (file.complained, _C), (file.unconfirmed, None)
        )
        for value in values
    }  # fmt: skip
    own = {key: column for key in ("email", "name", "tags") if (column := getattr(file, key))}
    preset = Preset(out=(OutRule(file.status, means),) if file.status else ())
    if file.status:
        preset = replace(preset, required=frozenset({file.status}))
    return preset.with_columns({**file.attributes, **own}, file.skip)


def split_tags(cell: str) -> tuple[str, ...]:
    """Return the tags in a cell, separated by commas and optionally quoted."""
    if not cell.strip():
        return ()
    return tuple(filter(None, (tag.strip() for tag in next(csv.reader([cell], skipinitialspace=True)))))
