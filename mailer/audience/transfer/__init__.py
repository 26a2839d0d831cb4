"""Subscribers from files and to files: import, export, and taking an import back."""
