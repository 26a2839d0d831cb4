"""A database of invented subscribers, made fast, for the benchmarks that need a million."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import text

from mailer.database.engine import Database

PEOPLE = """
    WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :number)
    INSERT INTO subscribers
        (id, address, address_key, domain, name, status, attributes, created_at, changed_at)
    SELECT n, 'reader' || n || '@example.com', 'reader' || n || '@example.com', 'example.com',
        'Reader ' || n, 'active', '{"plan": "weekly", "country": "RO"}', 0, 0
    FROM numbers
"""


def database_of(folder: Path, number: int) -> Database:
    """Return a new database in a folder, with that many active subscribers."""
    database = Database("sqlite:///subscribers.db", folder=folder)
    database.open()
    with database.transaction() as connection:
        connection.execute(text(PEOPLE), {"number": number})
    return database
