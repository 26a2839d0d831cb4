"""The requests about issues, statistics and messages, and their responses."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Self

from fastapi import Header, Path, Query
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    NaiveDatetime,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from mailer.config.values import checked_zone

MAX_PAGE: Final = 500
_EXAMPLE: Final = "---\ntitle: Spring, at last\ndate: 2026-03-06\n---\n\nHello!\n"

Slug = Annotated[
    str,
    Path(min_length=1, max_length=200, pattern=r"^[^/\\\x00]+$", description="The file's name without .md."),
]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Cursor = Annotated[str, Query(pattern=r"^[0-9]{0,16}$", description="The `next` of the previous page.")]
Segment = Annotated[str, Field(max_length=2000, description="Only these subscribers.", examples=["tag:vip"])]
IdempotencyKey = Annotated[
    str,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Any text that is unique to this request. A repetition is answered, but not done again.",
    ),
]


class Body(BaseModel):
    """A request; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class NewIssue(Body):
    """An issue to create. Without `source`, it starts with an empty text."""

    title: Annotated[str, Field(min_length=1, max_length=200, examples=["Spring, at last"])]
    source: Annotated[str, Field(max_length=60_000, examples=[_EXAMPLE])] | None = None


class IssueText(Body):
    """The new text of an issue's file. `digest` is that of the text you read."""

    source: Annotated[str, Field(max_length=60_000, examples=[_EXAMPLE])]
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Sending(Body):
    """How to send an issue."""

    segment: Segment = ""
    lint: Annotated[bool, Field(description="Refuse an issue with errors.")] = True


class Schedule(Sending):
    """When and how to send an issue: at an instant, or at a local time everywhere."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["at"]}, {"required": ["local_time"]}]}
    )

    at: Annotated[AwareDatetime | SkipJsonSchema[None], Field(examples=["2026-12-04T08:00:00+02:00"])] = None
    local_time: Annotated[
        NaiveDatetime | SkipJsonSchema[None],
        Field(
            description="The time in each subscriber's own zone, which is their attribute `timezone`.",
            examples=["2026-12-04T08:00:00"],
        ),
    ] = None
    timezone: Annotated[
        str,
        AfterValidator(checked_zone),
        Field(max_length=64, description="The zone of subscribers without one; only with `local_time`."),
    ] = ""

    @model_validator(mode="after")
    def _one_time(self) -> Self:
        times = {"at": self.at, "local_time": self.local_time}
        given = [time for name, time in times.items() if name in self.model_fields_set]
        if len(given) != 1 or None in given:
            raise ValueError("give one of at and local_time")
        return self


class NewMessage(Body):
    """A message to one subscriber."""

    to: Annotated[str, Field(min_length=3, max_length=320, examples=["ana@example.com"])]
    subject: Annotated[str, Field(min_length=1, max_length=250, examples=["Your order 1042"])]
    text: Annotated[
        str, Field(min_length=1, max_length=50_000, description="Markdown.", examples=["It is on its way."])
    ]


class NewMember(Body):
    """The subscriber who enters a sequence."""

    address: Annotated[str, Field(min_length=3, max_length=320, examples=["ana@example.com"])]


class Entered(BaseModel):
    """A subscriber who entered a sequence."""

    sequence: str
    address: str


class IssueEntry(BaseModel):
    """An issue in the list."""

    slug: str
    title: str
    state: str
    """draft, scheduled, missed, sending, paused, cancelled or finished"""
    at: datetime
    """When it was queued or is due; for a draft, when it was last changed."""
    segment: str = ""


class IssuePage(BaseModel):
    """A page of issues, the latest first. `next` is the cursor of the next page, or null on the last."""

    items: list[IssueEntry]
    next: str | None


class IssueDetails(IssueEntry):
    """An issue; `source` and `digest` are null if its file does not exist here."""

    source: str | None
    digest: str | None
    books: dict[str, int] | None
    """The deliveries by state; null before it is queued."""


class Previewed(BaseModel):
    """An issue as one reader receives it."""

    subject: str
    preheader: str
    html: str
    text: str


class DeliveryDetails(BaseModel):
    """A delivery."""

    subscriber_id: int
    address: str | None
    state: str
    attempts: int
    changed_at: datetime | None
    next_at: datetime | None
    answer: str | None
    bounce_class: str | None


class DeliveryPage(BaseModel):
    """A page of deliveries by subscriber id. `next` is the cursor of the next page, or null on the last."""

    items: list[DeliveryDetails]
    next: str | None


class Queued(BaseModel):
    """An issue in the queue; a worker sends it."""

    slug: str
    state: str
    audience: int


class Planned(BaseModel):
    """A scheduled issue."""

    slug: str
    at: datetime
    """With a local time: when it is that time in the first zone on earth."""
    local_time: datetime | None
    segment: str
    audience: int
    """How many subscribers would get it now."""


class Accepted(BaseModel):
    """A message in the queue."""

    id: int
    status: str = "queued"


Report = dict[str, Any]
