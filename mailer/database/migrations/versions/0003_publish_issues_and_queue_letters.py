"""Note when the archive first showed an issue, and give letters the states of a delivery."""

import sqlalchemy as sa
from alembic import op


revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema one version up."""
    op.add_column("issues", sa.Column("published_at", sa.BigInteger(), nullable=True))
    # Until now the archive listed every queued issue that was not cancelled.
    op.execute(
        "UPDATE issues SET published_at = dated_at"
        " WHERE (state <> 'cancelled' AND (canary IS NULL OR canary = 'passed'))"
        " OR (state = 'cancelled' AND EXISTS"
        " (SELECT 1 FROM deliveries WHERE issue_id = issues.id AND deliveries.state = 'sent'))"
    )
    for column in (
        sa.Column("state", sa.String(length=16), server_default=sa.text("'queued'"), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=True),
        sa.Column("code", sa.Integer(), nullable=True),
        sa.Column("enhanced", sa.String(length=16), nullable=True),
        sa.Column("reply", sa.Text(), nullable=True),
        sa.Column("bounce_class", sa.String(length=32), nullable=True),
    ):
        op.add_column("letters", column)
