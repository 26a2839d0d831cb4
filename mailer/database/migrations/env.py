"""Runs the migrations on the connection that `mailer.database.session.upgrade` gives."""

from alembic import context

from mailer.database.models import Base

connection = context.config.attributes["connection"]
context.configure(
    connection=connection, target_metadata=Base.metadata, render_as_batch=connection.dialect.name == "sqlite"
)
with context.begin_transaction():
    context.run_migrations()
