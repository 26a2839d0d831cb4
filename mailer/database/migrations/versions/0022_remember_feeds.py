"""Remember the items of feeds that issues were made from."""

import sqlalchemy as sa
from alembic import op


revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema one version up."""
    op.create_table(
        "feeds",
        sa.Column("url", sa.String(length=2000), nullable=False),
        sa.Column("etag", sa.String(length=1000), server_default=sa.text("''"), nullable=False),
        sa.Column("modified", sa.String(length=100), server_default=sa.text("''"), nullable=False),
        sa.PrimaryKeyConstraint("url", name=op.f("pk_feeds")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "feed_items",
        sa.Column("url", sa.String(length=2000), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["url"], ["feeds.url"], name=op.f("fk_feed_items_url")),
        sa.PrimaryKeyConstraint("url", "key", name=op.f("pk_feed_items")),
        sqlite_with_rowid=False,
    )
