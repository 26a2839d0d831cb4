"""All tables, by what they are about.

Sized for 1,000,000 subscribers and 52 issues a year: see docs/how/database.md. Each module is imported when
one of its names is: defining all tables takes longer than a command should. For the same reason they have no
`from __future__ import annotations`: SQLAlchemy would have to parse and evaluate the text of each.

A table is named after what one row is; `SubscriberColumns` describes the columns of `Subscriber`.
"""

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from sqlalchemy import MetaData

from mailer.database.tables.base import METADATA, Instance, TableRow
from mailer.database.tables.states import CanaryState, DeliveryState, IssueState, SubscriberStatus

if TYPE_CHECKING:
    from mailer.database.tables.access import (
        ApiRequest,
        ApiToken,
        AuditEntry,
        ConsolePasskey,
        ConsoleSession,
        ConsoleUser,
        StoredProposal,
    )
    from mailer.database.tables.automatic import Feed, FeedItem, SequenceMember, SequenceStep, StoredSequence
    from mailer.database.tables.cluster import LatencyBucket, Seat, SharedLimit, Worker
    from mailer.database.tables.consent import Consent, Import, SignUpRequest, Wording
    from mailer.database.tables.counts import CohortCount, IssueCount, LedgerDay
    from mailer.database.tables.issues import (
        CanaryMember,
        ReplacedEdition,
        ScheduledIssue,
        StoredArm,
        StoredEdition,
        StoredIssue,
        StoredTest,
    )
    from mailer.database.tables.outgoing import WebhookDelivery, WebhookEndpoint, WebhookEvent
    from mailer.database.tables.people import (
        NO_SOFT_BOUNCES,
        SOFT_BOUNCE,
        Subscriber,
        SubscriberTag,
        Suppression,
    )
    from mailer.database.tables.results import ALERT, Event, StoredReport
    from mailer.database.tables.sending import WAITS, Delivery, Run, RunningTotal, WaitingLetter
else:
    _NAMES = {
        "access": "ApiRequest ApiToken AuditEntry ConsolePasskey ConsoleSession ConsoleUser StoredProposal",
        "automatic": "Feed FeedItem SequenceMember SequenceStep StoredSequence",
        "cluster": "LatencyBucket Seat SharedLimit Worker",
        "consent": "Consent Import SignUpRequest Wording",
        "counts": "CohortCount IssueCount LedgerDay",
        "issues": "CanaryMember ReplacedEdition ScheduledIssue StoredArm StoredEdition StoredIssue"
        " StoredTest",
        "outgoing": "WebhookDelivery WebhookEndpoint WebhookEvent",
        "people": "NO_SOFT_BOUNCES SOFT_BOUNCE Subscriber SubscriberTag Suppression",
        "results": "ALERT Event StoredReport",
        "sending": "WAITS Delivery Run RunningTotal WaitingLetter",
    }
    _MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}

    def __getattr__(name):
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value
        return value


__all__ = [
    "ALERT",
    "METADATA",
    "NO_SOFT_BOUNCES",
    "SOFT_BOUNCE",
    "WAITS",
    "ApiRequest",
    "ApiToken",
    "AuditEntry",
    "CanaryMember",
    "CanaryState",
    "CohortCount",
    "Consent",
    "ConsolePasskey",
    "ConsoleSession",
    "ConsoleUser",
    "Delivery",
    "DeliveryState",
    "Event",
    "Feed",
    "FeedItem",
    "Import",
    "Instance",
    "IssueCount",
    "IssueState",
    "LatencyBucket",
    "LedgerDay",
    "ReplacedEdition",
    "Run",
    "RunningTotal",
    "ScheduledIssue",
    "Seat",
    "SequenceMember",
    "SequenceStep",
    "SharedLimit",
    "SignUpRequest",
    "StoredArm",
    "StoredEdition",
    "StoredIssue",
    "StoredProposal",
    "StoredReport",
    "StoredSequence",
    "StoredTest",
    "Subscriber",
    "SubscriberStatus",
    "SubscriberTag",
    "Suppression",
    "TableRow",
    "WaitingLetter",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookEvent",
    "Wording",
    "Worker",
    "every_table",
]


def every_table() -> MetaData:
    """Return the metadata with all tables, importing the modules that are not yet used."""
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    return METADATA
