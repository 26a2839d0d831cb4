"""Resend issues to readers who did not react."""

import sqlalchemy as sa
from alembic import op


revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema one version up."""
    op.add_column("subscribers", sa.Column("tracking_since", sa.BigInteger(), nullable=True))
    big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.add_column("issues", sa.Column("resend_of", big, nullable=True))
