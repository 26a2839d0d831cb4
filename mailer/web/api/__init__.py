"""The JSON API for subscribers."""
