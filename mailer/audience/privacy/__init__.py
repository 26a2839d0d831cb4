"""Erasing people, what a person may see of their data, and how long records are kept."""
