"""Let runs prove that they live."""

import sqlalchemy as sa
from alembic import op


revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema one version up."""
    op.add_column("runs", sa.Column("place", sa.String(length=128), server_default=sa.text("''"), nullable=False))
    op.add_column("runs", sa.Column("seen_at", sa.BigInteger(), nullable=True))
    op.add_column("runs", sa.Column("commits", sa.Integer(), server_default=sa.text("0"), nullable=False))
