"""Tests of `mailer.reports`."""
