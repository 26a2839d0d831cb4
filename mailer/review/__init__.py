"""An issue as its operator sees it: lint, links, preview, test message, plan and status."""
