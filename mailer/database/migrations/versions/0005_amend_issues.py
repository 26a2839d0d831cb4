"""Keep the editions that an amendment replaced, and which edition each run sent."""

import sqlalchemy as sa
from alembic import op


revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema one version up."""
    op.create_table(
        "replaced_editions",
        sa.Column("issue_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("replaced_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["issue_id"], ["issues.id"], name=op.f("fk_replaced_editions_issue_id")
        ),
        sa.ForeignKeyConstraint(
            ["digest"], ["editions.digest"], name=op.f("fk_replaced_editions_digest")
        ),
        sa.PrimaryKeyConstraint("issue_id", "number", name=op.f("pk_replaced_editions")),
        sqlite_with_rowid=False,
    )
    op.add_column("runs", sa.Column("edition", sa.Integer(), server_default=sa.text("1"), nullable=False))
