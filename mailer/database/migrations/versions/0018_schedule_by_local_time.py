"""Schedule issues for the same local time everywhere."""

import sqlalchemy as sa
from alembic import op


revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema one version up."""
    op.add_column(
        "schedules", sa.Column("wall_time", sa.String(length=32), server_default=sa.text("''"), nullable=False)
    )
    op.add_column("schedules", sa.Column("began_at", sa.BigInteger(), nullable=True))
