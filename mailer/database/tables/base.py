"""The metadata of all tables, and the table of the installation itself."""

from typing import Any, Final, TypeAlias

from sqlalchemy import Column, Connection, MetaData, Named, Row, String, Table, Text, TypedColumns, event

METADATA: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
"""Constraint names are fixed so that migrations can name them."""

TableRow: TypeAlias = Row[*tuple[Any, ...]]
"""A row with all columns of a table, as its attributes."""


@event.listens_for(METADATA, "before_create")
def _set_partial_indexes(metadata: MetaData, connection: Connection, **options: object) -> None:
    """Make the indexes that are partial on SQLite partial on PostgreSQL, too.

    Declared with the indexes, the condition would load the dialect of PostgreSQL everywhere.
    """
    if connection.dialect.name == "postgresql":
        for table in metadata.tables.values():
            for index in table.indexes:
                index.dialect_kwargs["postgresql_where"] = index.dialect_options["sqlite"]["where"]


class InstanceColumns(TypedColumns):
    """Named values of this installation: its identity and its secrets."""

    name: Named[str] = Column(String(64), primary_key=True)
    value: Named[str] = Column(Text)


Instance = Table("instance", METADATA, InstanceColumns)
