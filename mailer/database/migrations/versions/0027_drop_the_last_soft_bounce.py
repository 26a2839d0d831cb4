"""Drop the time of a subscriber's last soft bounce, which the events hold and no rule reads."""

from alembic import op


revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema one version up."""
    op.drop_column("subscribers", "soft_last_at")
