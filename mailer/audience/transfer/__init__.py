"""Import subscribers from files, export them, and revert an import."""
