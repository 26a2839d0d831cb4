"""Pages for the operator, on this machine only: the outbox and the preview."""
