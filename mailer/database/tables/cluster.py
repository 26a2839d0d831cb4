"""What sending processes know about each other: workers, shared limits and histograms of times."""

from datetime import datetime

from sqlalchemy import BigInteger, Column, Float, Integer, Named, String, Table, TypedColumns, text

from mailer.database.columns import Identifier, Instant
from mailer.database.tables.base import METADATA


class WorkerColumns(TypedColumns):
    """A `mailer worker` that is running. The row is deleted when it ends, or when another finds it dead."""

    id: Named[int] = Column(Identifier, primary_key=True)
    name: Named[str] = Column(String(64))
    """The operator's name for it; the machine's by default."""
    host: Named[str] = Column(String(255))
    pid: Named[int] = Column(Integer)
    place: Named[str] = Column(String(128), default="", server_default=text("''"))
    """As in `Run`."""
    started_at: Named[datetime] = Column(Instant)
    seen_at: Named[datetime] = Column(Instant)
    """When it last reached the database, by the database's clock."""


Worker = Table("workers", METADATA, WorkerColumns)


class SharedLimitColumns(TypedColumns):
    """What all runs know about the limits of a relay, a provider or a domain. Times are in seconds on one
    clock; see `mailer.delivery.sharing`."""

    name: Named[str] = Column(String(300), primary_key=True)
    free_at: Named[float] = Column(Float, server_default=text("0"))
    """From when on no instants for messages are reserved."""
    not_before: Named[float] = Column(Float, server_default=text("0"))
    """When a reply allowed the next message."""
    slowed_at: Named[float] = Column(Float, server_default=text("0"))
    share: Named[float] = Column(Float, server_default=text("1"))
    """The fraction of the usual rate that was left then."""
    usual_per_second: Named[float] = Column(Float, server_default=text("0"))
    """The rate before that, if none is configured."""


SharedLimit = Table("limits", METADATA, SharedLimitColumns, sqlite_with_rowid=False)


class SeatColumns(TypedColumns):
    """The connections of one run under one limit, until it asks again."""

    limit_name: Named[str] = Column(String(300), primary_key=True)
    holder: Named[str] = Column(String(64), primary_key=True)
    connections: Named[int] = Column(Integer)
    wanted: Named[int] = Column(Integer)
    until: Named[float] = Column(Float)


Seat = Table("seats", METADATA, SeatColumns, sqlite_with_rowid=False)


class LatencyBucketColumns(TypedColumns):
    """One bucket of a histogram of times, added up over all processes; see `mailer.delivery.latencies`."""

    measure: Named[str] = Column(String(16), primary_key=True)
    relay: Named[str] = Column(String(64), primary_key=True)
    provider: Named[str] = Column(String(64), primary_key=True)
    kind: Named[str] = Column(String(32), primary_key=True)
    """The class of a reply, or whether an issue or which letter was accepted."""
    up_to_ms: Named[int] = Column(Integer, primary_key=True, autoincrement=False)
    """The upper bound in milliseconds; 0 for the bucket without one."""
    number: Named[int] = Column(BigInteger)
    microseconds: Named[int] = Column(BigInteger)
    """The sum of the measurements in it."""


LatencyBucket = Table("latencies", METADATA, LatencyBucketColumns, sqlite_with_rowid=False)
