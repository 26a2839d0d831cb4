"""The base class of all tables, and the table of the installation itself."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Connection, MetaData, String, Text, event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from mailer.database.columns import Instant


class Base(DeclarativeBase):
    """The declarative base; constraint names are fixed so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: Instant(), dict[str, Any]: JSON()}  # noqa: RUF012


@event.listens_for(Base.metadata, "before_create")
def _set_partial_indexes(metadata: MetaData, connection: Connection, **options: object) -> None:
    """Make the indexes that are partial on SQLite partial on PostgreSQL, too.

    Declared with the indexes, the condition would load the dialect of PostgreSQL everywhere.
    """
    if connection.dialect.name == "postgresql":
        for table in metadata.tables.values():
            for index in table.indexes:
                index.dialect_kwargs["postgresql_where"] = index.dialect_options["sqlite"]["where"]


class Instance(Base):
    """Named values of this installation: its identity and its secrets."""

    __tablename__ = "instance"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(Text)
