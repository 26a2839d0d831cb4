"""What the columns mean in the subscriber files that other services write, or the operator's own."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from mailer.address import shown
from mailer.audience.ledger import OUT
from mailer.config import ImportFile
from mailer.database.models import SubscriberStatus

_U: Final = SubscriberStatus.UNSUBSCRIBED
_B: Final = SubscriberStatus.BOUNCED
_C: Final = SubscriberStatus.COMPLAINED
_ANY: Final = "*"
_FIELDS: Final = frozenset({"email", "name", "tags", "joined"})
_NO: Final = ("false", "0", "no", "nein", "non", "nee", "nie", "não", "n", "never", "none", "null", "-")
_YES: Final = ("true", "1", "yes")


@dataclass(frozen=True, slots=True)
class Out:
    """Why a service did not mail a person.

    `status` is what that is called here, or None if the person said nothing of the kind (never
    confirmed, say); `note` what stands in the file; `at` since when, if the file tells.
    """

    status: SubscriberStatus | None
    note: str
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class OutRule:
    """A column that tells who is out: values in lower case, `*` for any, and what each comes to here.

    `dated` is the column that holds since when. It must be the instant of the opt-out itself, not that
    of any later change.
    """

    column: str
    means: Mapping[str, SubscriberStatus | None]
    dated: str = ""
    no: frozenset[str] = frozenset()
    """Values that say nothing of the kind."""


@dataclass(frozen=True, slots=True)
class Preset:
    """What the columns of a file mean, beyond those that their usual headings tell.

    The first of the `out` rules that fits a row says why that person is out. Columns that a file lacks
    are passed over, unless they are `required`.
    """

    email: str = ""
    name: str = ""
    tags: str = ""
    joined: str = ""
    """The column of sign-up dates."""
    attributes: str = ""
    """A column that holds a JSON object; each of its fields becomes an attribute."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Column to the name of the attribute that it becomes."""
    out: tuple[OutRule, ...] = ()
    ignored: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()

    def with_columns(self, named: Mapping[str, str], skipped: Iterable[str] = ()) -> Preset:
        """Return the preset with columns named: `email`, `name`, `tags`, `joined` or any attribute.

        A column named `unsubscribed`, `bounced` or `complained` says by any value but "no" that the person
        is that. Columns that are named or skipped must be in the file.
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
        """The columns that say who is out, and since when."""
        return frozenset(filter(None, (name for rule in self.out for name in (rule.column, rule.dated))))

    def why_out(self, cells: Mapping[str, str]) -> Out | None:
        """Return why the service would not have mailed this person, or None if it would have."""
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

    None as well for 01/02/2025, which is a day in January to some and in February to others.
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
"""How every CSV file that we export begins."""
JSON_COLUMN: Final = " (json)"
"""How the heading of an exported column ends whose cells are JSON, so that numbers stay numbers."""
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
        # updated_at moves with every later change, so it does not tell since when.
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
}


def preset_of(file: ImportFile) -> Preset:
    """Return the preset that the operator wrote into config.toml."""
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
    """Return the tags of a cell: separated by commas, each quoted or not."""
    if not cell.strip():
        return ()
    return tuple(filter(None, (tag.strip() for tag in next(csv.reader([cell], skipinitialspace=True)))))
