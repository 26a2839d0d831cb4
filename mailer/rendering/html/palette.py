"""Every colour of an email, derived from the few that the brand sets."""

from __future__ import annotations

from functools import lru_cache

from mailer.config import Brand
from mailer.rendering.colour import contrast, mixed, readable


def palette(brand: Brand) -> dict[str, str]:
    """Return every colour of an email, light and dark. Text colours are readable on their surfaces."""
    return _palette(brand.accent, brand.text, brand.background, brand.surface)


@lru_cache(maxsize=8)
def _palette(accent: str, text: str, background: str, light: str) -> dict[str, str]:
    dark_page, dark_surface, dark_text = "#121417", "#1b1e23", "#e4e2dd"
    light_ink = "#ffffff" if contrast("#ffffff", accent) >= 4.5 else readable("#1f2328", accent)
    tint = mixed(accent, light, 0.07)
    return {
        "accent": accent,
        "on_accent": light_ink,
        "link": readable(accent, light, background, tint),
        "text": readable(text, light, background, tint),
        "muted": readable(mixed(text, light, 0.62), light, background),
        "page": background,
        "surface": light,
        "line": mixed(text, light, 0.14),
        "tint": tint,
        "dark_link": readable(accent, dark_surface, dark_page, least=6.5),
        "dark_text": dark_text,
        "dark_muted": readable(mixed(dark_text, dark_surface, 0.62), dark_surface, dark_page, least=5),
        "dark_page": dark_page,
        "dark_surface": dark_surface,
        "dark_line": mixed(dark_text, dark_surface, 0.16),
        "dark_tint": mixed(dark_text, dark_surface, 0.06),
    }
