"""The counts that statistics read."""

from sqlalchemy import Column, Integer, Named, String, Table, TypedColumns

from mailer.database.columns import Identifier
from mailer.database.tables.base import METADATA


class LedgerDayColumns(TypedColumns):
    """How many people changed from one status to another on a day; counted from the ledger."""

    day: Named[int] = Column(Integer, primary_key=True, autoincrement=False)
    """Days since 1970 in UTC."""
    before: Named[str] = Column(String(16), primary_key=True)
    after: Named[str] = Column(String(16), primary_key=True)
    way: Named[str] = Column(String(32), primary_key=True)
    people: Named[int] = Column(Integer)


LedgerDay = Table("ledger_days", METADATA, LedgerDayColumns, sqlite_with_rowid=False)


class CohortCountColumns(TypedColumns):
    """How many people joined in one month and left in another; counted from the ledger."""

    joined_month: Named[str] = Column(String(7), primary_key=True)
    """Such as 2026-03, in UTC."""
    left_month: Named[str] = Column(String(7), primary_key=True)
    """Empty for those who are still active."""
    people: Named[int] = Column(Integer)


CohortCount = Table("cohorts", METADATA, CohortCountColumns, sqlite_with_rowid=False)


class IssueCountColumns(TypedColumns):
    """A number about an issue, counted from deliveries, events, reports and the ledger.

    `mailer.reports.counting` lists the facets and measures. Issue 0 holds numbers about the whole list.
    """

    issue_id: Named[int] = Column(Identifier, primary_key=True, autoincrement=False)
    facet: Named[str] = Column(String(16), primary_key=True)
    name: Named[str] = Column(String(255), primary_key=True)
    measure: Named[str] = Column(String(16), primary_key=True)
    number: Named[int] = Column(Integer)


IssueCount = Table("issue_counts", METADATA, IssueCountColumns, sqlite_with_rowid=False)
