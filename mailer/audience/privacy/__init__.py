"""Erase people, give people their data, and delete expired records."""
