"""A rehearsal: the real run against a server of our own that misbehaves."""
