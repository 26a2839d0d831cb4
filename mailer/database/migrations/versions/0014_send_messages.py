"""Send messages to single subscribers."""

import sqlalchemy as sa
from alembic import op


revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema one version up."""
    op.add_column("letters", sa.Column("source", sa.Text(), server_default=sa.text("''"), nullable=False))
