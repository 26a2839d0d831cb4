"""Know the console's users by the address that an OpenID Connect provider has of them."""

import sqlalchemy as sa
from alembic import op


revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema one version up."""
    op.add_column("console_users", sa.Column("email", sa.String(length=320), nullable=True))
    op.create_index(op.f("ix_console_users_email"), "console_users", ["email"], unique=True)
