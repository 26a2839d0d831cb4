"""All tables, by what they are about.

Sized for 1,000,000 subscribers and 52 issues a year: see docs/how/database.md.
"""

from mailer.database.models.access import (
    ApiRequest,
    ApiToken,
    AuditEntry,
    ConsolePasskey,
    ConsoleSession,
    ConsoleUser,
    StoredProposal,
)
from mailer.database.models.automatic import Feed, FeedItem, SequenceMember, SequenceStep, StoredSequence
from mailer.database.models.base import Base, Instance
from mailer.database.models.issues import (
    CanaryMember,
    ReplacedEdition,
    ScheduledIssue,
    StoredArm,
    StoredEdition,
    StoredIssue,
    StoredTest,
)
from mailer.database.models.outgoing import WebhookDelivery, WebhookEndpoint, WebhookEvent
from mailer.database.models.people import (
    NO_SOFT_BOUNCES,
    Consent,
    Import,
    SignUpRequest,
    Subscriber,
    SubscriberTag,
    Suppression,
    Wording,
)
from mailer.database.models.results import ALERT, CohortCount, Event, IssueCount, LedgerDay, StoredReport
from mailer.database.models.sending import (
    WAITS,
    Delivery,
    LatencyBucket,
    Run,
    Seat,
    SharedLimit,
    WaitingLetter,
    Worker,
)
from mailer.database.models.states import CanaryState, DeliveryState, IssueState, SubscriberStatus

__all__ = [
    "ALERT",
    "NO_SOFT_BOUNCES",
    "WAITS",
    "ApiRequest",
    "ApiToken",
    "AuditEntry",
    "Base",
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
    "WaitingLetter",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookEvent",
    "Wording",
    "Worker",
]
