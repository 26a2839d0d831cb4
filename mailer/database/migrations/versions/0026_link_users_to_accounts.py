"""Link the console's users to their accounts at an OpenID Connect provider."""

import sqlalchemy as sa
from alembic import op


revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema one version up."""
    op.add_column("console_users", sa.Column("issuer", sa.Text(), nullable=True))
    op.add_column("console_users", sa.Column("subject", sa.String(length=255), nullable=True))
    op.create_index("ix_console_users_issuer_subject", "console_users", ["issuer", "subject"], unique=True)
