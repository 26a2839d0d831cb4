"""Numbers and histories: the history of an address, bounces, and statistics over time."""
