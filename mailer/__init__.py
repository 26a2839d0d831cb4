"""Email delivery for a weekly newsletter."""

__version__ = "0.1.0"
