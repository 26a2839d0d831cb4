"""The JSON API: subscribers for other programs."""
