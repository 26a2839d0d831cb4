"""The plain-text part."""
