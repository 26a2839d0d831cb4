"""Bytes of one mail to what it reports."""
