"""The HTML part and the archive page."""
