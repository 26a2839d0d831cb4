"""From a Markdown issue to the bytes of each message. Pure: no database, no network."""
