"""What processes that send know of each other: workers, shared limits and histograms of times."""

from datetime import datetime

from sqlalchemy import BigInteger, Float, String, text
from sqlalchemy.orm import Mapped, mapped_column

from mailer.database.columns import Identifier
from mailer.database.models.base import Base


class Worker(Base):
    """A `mailer worker` that is running. The row is deleted when it ends, or when another finds it dead."""

    __tablename__ = "workers"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    """The operator's name for it; the machine's by default."""
    host: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int]
    place: Mapped[str] = mapped_column(String(128), default="", server_default=text("''"))
    """As in `Run`."""
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    """When it last reached the database, by the database's clock."""


class SharedLimit(Base):
    """What all runs know of the limits of a relay, a provider or a domain. Times are in seconds on one
    clock; see `mailer.delivery.sharing`."""

    __tablename__ = "limits"
    __table_args__ = ({"sqlite_with_rowid": False},)

    name: Mapped[str] = mapped_column(String(300), primary_key=True)
    free_at: Mapped[float] = mapped_column(Float, server_default=text("0"))
    """From when on no instants for messages are reserved."""
    not_before: Mapped[float] = mapped_column(Float, server_default=text("0"))
    """When a reply allowed the next message."""
    slowed_at: Mapped[float] = mapped_column(Float, server_default=text("0"))
    share: Mapped[float] = mapped_column(Float, server_default=text("1"))
    """The fraction of the usual rate that was left then."""
    usual_per_second: Mapped[float] = mapped_column(Float, server_default=text("0"))
    """The rate before that, if none is configured."""


class Seat(Base):
    """The connections of one run under one limit, until it asks again."""

    __tablename__ = "seats"
    __table_args__ = ({"sqlite_with_rowid": False},)

    limit_name: Mapped[str] = mapped_column(String(300), primary_key=True)
    holder: Mapped[str] = mapped_column(String(64), primary_key=True)
    connections: Mapped[int]
    wanted: Mapped[int]
    until: Mapped[float] = mapped_column(Float)


class LatencyBucket(Base):
    """One bucket of a histogram of times, added up over all processes; see `mailer.delivery.latencies`."""

    __tablename__ = "latencies"
    __table_args__ = ({"sqlite_with_rowid": False},)

    measure: Mapped[str] = mapped_column(String(16), primary_key=True)
    relay: Mapped[str] = mapped_column(String(64), primary_key=True)
    provider: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(32), primary_key=True)
    """The class of a reply, or whether an issue or which letter was accepted."""
    up_to_ms: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """The upper bound in milliseconds; 0 for the bucket without one."""
    number: Mapped[int] = mapped_column(BigInteger)
    microseconds: Mapped[int] = mapped_column(BigInteger)
    """The sum of the measurements in it."""
