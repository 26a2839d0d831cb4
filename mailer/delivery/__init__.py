"""The queue, the SMTP sessions and the run that brings an issue to its audience."""
