"""What an operator sees of an issue: lint, links, preview, test message, plan and status."""
