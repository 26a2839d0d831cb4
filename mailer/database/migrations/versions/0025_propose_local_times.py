"""Remember the local time that a proposal is for."""

import sqlalchemy as sa
from alembic import op


revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema one version up."""
    op.add_column(
        "proposals", sa.Column("wall_time", sa.String(length=32), server_default=sa.text("''"), nullable=False)
    )
