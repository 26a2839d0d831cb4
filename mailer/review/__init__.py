"""What an operator sees before sending: lint, links, preview, test message and plan."""
