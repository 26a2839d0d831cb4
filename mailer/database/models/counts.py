"""The counts that statistics read."""

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from mailer.database.columns import Identifier
from mailer.database.models.base import Base


class LedgerDay(Base):
    """How many people changed from one status to another on a day; counted from the ledger."""

    __tablename__ = "ledger_days"
    __table_args__ = ({"sqlite_with_rowid": False},)

    day: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """Days since 1970 in UTC."""
    before: Mapped[str] = mapped_column(String(16), primary_key=True)
    after: Mapped[str] = mapped_column(String(16), primary_key=True)
    way: Mapped[str] = mapped_column(String(32), primary_key=True)
    people: Mapped[int]


class CohortCount(Base):
    """How many people joined in one month and left in another; counted from the ledger."""

    __tablename__ = "cohorts"
    __table_args__ = ({"sqlite_with_rowid": False},)

    joined_month: Mapped[str] = mapped_column(String(7), primary_key=True)
    """Such as 2026-03, in UTC."""
    left_month: Mapped[str] = mapped_column(String(7), primary_key=True)
    """Empty for those who are still active."""
    people: Mapped[int]


class IssueCount(Base):
    """A number about an issue, counted from deliveries, events, reports and the ledger.

    `mailer.reports.counting` lists the facets and measures. Issue 0 holds numbers about the whole list.
    """

    __tablename__ = "issue_counts"
    __table_args__ = ({"sqlite_with_rowid": False},)

    issue_id: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=False)
    facet: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    measure: Mapped[str] = mapped_column(String(16), primary_key=True)
    number: Mapped[int]
