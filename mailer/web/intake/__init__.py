"""Requests that people and providers make because of a message: clicks, opens and webhooks."""
