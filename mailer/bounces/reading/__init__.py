"""Read bounce mail: the bytes of a message to a report. No database, no network."""
