"""Test several arms of an issue."""

import sqlalchemy as sa
from alembic import op


revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema one version up."""
    big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.add_column("canary_members", sa.Column("arm", sa.Integer(), nullable=True))
    op.create_table(
        "ab_tests",
        sa.Column("issue_id", big, autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("wait_seconds", sa.Float(), nullable=False),
        sa.Column("hold", sa.Boolean(), nullable=False),
        sa.Column("winner", sa.Integer(), nullable=True),
        sa.Column("decided_at", sa.BigInteger(), nullable=True),
        sa.Column("said", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.ForeignKeyConstraint(["issue_id"], ["issues.id"], name=op.f("fk_ab_tests_issue_id")),
        sa.PrimaryKeyConstraint("issue_id", name=op.f("pk_ab_tests")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "arms",
        sa.Column("issue_id", big, nullable=False),
        sa.Column("arm", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["digest"], ["editions.digest"], name=op.f("fk_arms_digest")),
        sa.ForeignKeyConstraint(["issue_id"], ["issues.id"], name=op.f("fk_arms_issue_id")),
        sa.PrimaryKeyConstraint("issue_id", "arm", name=op.f("pk_arms")),
        sqlite_with_rowid=False,
    )
