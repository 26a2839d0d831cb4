"""Keep running totals of deliveries."""

import sqlalchemy as sa
from alembic import op


revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

STATES = ("queued", "sending", "sent", "deferred", "failed", "uncertain", "skipped")


def upgrade() -> None:
    """Bring the schema one version up."""
    big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "running_totals",
        sa.Column("issue_id", big, nullable=False),
        sa.Column("slot", big, nullable=False),
        *(sa.Column(state, sa.BigInteger(), nullable=False) for state in STATES),
        sa.ForeignKeyConstraint(["issue_id"], ["issues.id"], name=op.f("fk_running_totals_issue_id")),
        sa.PrimaryKeyConstraint("issue_id", "slot", name=op.f("pk_running_totals")),
        sqlite_with_rowid=False,
    )
    counts = ", ".join(f"count(CASE WHEN state = '{state}' THEN 1 END)" for state in STATES)
    op.execute(
        f"INSERT INTO running_totals (issue_id, slot, {', '.join(STATES)})"
        f" SELECT issue_id, 0, {counts} FROM deliveries GROUP BY issue_id"
    )
