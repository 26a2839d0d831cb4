"""Two-stage Jinja rendering: once for the issue, once for each subscriber."""
