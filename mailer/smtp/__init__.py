"""Sending messages over SMTP: connections, relays, limits and DKIM; no database and no rendering."""
