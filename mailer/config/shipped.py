"""The files that come with the program: the templates, the sample issue and the commented config.toml."""

from __future__ import annotations

from pathlib import Path


def shipped(name: str) -> Path:
    """Return the path of a shipped file or folder: inside the package, or in the source tree."""
    package = Path(__file__).parents[1]
    inside = package / "_shipped" / name
    return inside if inside.exists() else package.parent / name
