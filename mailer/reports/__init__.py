"""Numbers and histories: what happened to an address, bounces, and statistics over time."""
