"""The `mailer` command."""
