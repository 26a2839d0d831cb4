"""What the columns mean in the subscriber files that other services write."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class Preset:
    """A service's columns beyond address and name, which are recognised by their usual headings.

    A row is out, and nobody is added for it, if one of the `out` columns holds one of these values in
    any case; an empty set stands for any value at all. Columns that a file lacks are passed over.
    """

    tags: str = ""
    attributes: str = ""
    """A column that holds a JSON object; each of its fields becomes an attribute."""
    out: Mapping[str, frozenset[str]] = field(default_factory=dict)
    ignored: frozenset[str] = frozenset()

    def is_out(self, cells: Mapping[str, str]) -> bool:
        """Return whether the service would not have mailed this person."""
        for column, values in self.out.items():
            value = cells.get(column, "").strip().lower()
            if value and (not values or value in values):
                return True
        return False


PLAIN: Final = Preset()
PRESETS: Final[Mapping[str, Preset]] = {
    "mailer": Preset(
        tags="tags",
        attributes="attributes",
        out={"status": frozenset({"pending", "unsubscribed", "bounced", "complained", "erased"})},
        ignored=frozenset({"joined"}),
    ),
    "mailchimp": Preset(
        tags="TAGS",
        out={"UNSUB_TIME": frozenset(), "CLEAN_TIME": frozenset()},
        ignored=frozenset({"LEID", "EUID", "CONFIRM_IP", "OPTIN_IP"}),
    ),
    "listmonk": Preset(
        attributes="attributes",
        out={"status": frozenset({"blocklisted", "disabled"})},
        ignored=frozenset({"uuid", "id", "created_at", "updated_at"}),
    ),
    "substack": Preset(out={"email_disabled": frozenset({"true", "1", "yes"})}),
    "ghost": Preset(
        tags="labels",
        out={"subscribed_to_emails": frozenset({"false", "0", "no"}), "deleted_at": frozenset()},
        ignored=frozenset({"id", "stripe_customer_id"}),
    ),
    "buttondown": Preset(
        tags="tags",
        attributes="metadata",
        out={
            column: frozenset({"unsubscribed", "unactivated", "undeliverable", "complained", "blocked"})
            for column in ("type", "subscriber_type")
        },
        ignored=frozenset({"id"}),
    ),
}


def split_tags(cell: str) -> tuple[str, ...]:
    """Return the tags of a cell: separated by commas, each quoted or not."""
    if not cell.strip():
        return ()
    return tuple(filter(None, (tag.strip() for tag in next(csv.reader([cell], skipinitialspace=True)))))
