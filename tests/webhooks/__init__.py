"""Tests of `mailer.webhooks` and of their delivery."""
