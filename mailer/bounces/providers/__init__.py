"""Webhooks of email providers: check who sent a request, then read its events."""
