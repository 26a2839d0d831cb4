"""Keep why a run ended before everything was sent."""

import sqlalchemy as sa
from alembic import op


revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema one version up."""
    op.add_column("runs", sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False))
