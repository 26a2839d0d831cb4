"""Colours: contrast as WCAG 2 defines it, and readable variants."""

from __future__ import annotations

import colorsys
import re
from functools import lru_cache
from typing import Final

READABLE: Final = 4.5
"""The minimum contrast of body text (WCAG 2.2, success criterion 1.4.3)."""


def _channels(colour: str) -> tuple[float, float, float]:
    return int(colour[1:3], 16) / 255, int(colour[3:5], 16) / 255, int(colour[5:7], 16) / 255


def _luminance(colour: str) -> float:
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in _channels(colour)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Return the contrast of two `#rrggbb` colours, from 1 to 21."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def readable(colour: str, *surfaces: str, least: float = READABLE) -> str:
    """Return `colour`, made just light or dark enough to be readable on all `surfaces`."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*_channels(colour))
    towards = 0.0 if min(_luminance(surface) for surface in surfaces) > 0.18 else 1.0
    for step in range(51):
        tried = lightness + (towards - lightness) * step / 50
        red, green, blue = (round(c * 255) for c in colorsys.hls_to_rgb(hue, tried, saturation))
        candidate = colour if step == 0 else f"#{red:02x}{green:02x}{blue:02x}"
        if all(contrast(candidate, surface) >= least for surface in surfaces):
            return candidate
    return "#000000" if towards == 0.0 else "#ffffff"


def mixed(one: str, other: str, share: float) -> str:
    """Return a mix of two colours: `share` (0 to 1) of `one`, and the rest of `other`."""
    pairs = zip(_channels(one), _channels(other), strict=True)
    red, green, blue = (round((a * share + b * (1 - share)) * 255) for a, b in pairs)
    return f"#{red:02x}{green:02x}{blue:02x}"


@lru_cache(maxsize=1_024)
def colour_of(value: str) -> str | None:
    """Return a CSS colour as `#rrggbb`, or None for anything else and for transparent ones.

    A translucent colour is mixed with white.
    """
    value = value.strip().lower()
    if not value or value == "transparent":
        return None
    if _HEX.fullmatch(value):
        return value if len(value) == 7 else "#" + "".join(digit * 2 for digit in value[1:])
    if found := _RGB.fullmatch(value):
        colour = "#" + "".join(f"{min(int(part), 255):02x}" for part in found.groups()[:3])
        alpha = min(float(found[4]), 1.0) if found[4] else 1.0
        return mixed(colour, "#ffffff", alpha) if alpha else None
    # Pillow knows CSS colour names; imported here because few issues need it.
    from PIL import ImageColor

    try:
        red, green, blue, *_ = ImageColor.getrgb(value)
    except ValueError:
        return None
    return f"#{red:02x}{green:02x}{blue:02x}"


_HEX: Final = re.compile(r"#(?:[0-9a-f]{3}){1,2}")
_RGB: Final = re.compile(
    r"rgba?\(\s*([0-9]{1,9})[\s,]+([0-9]{1,9})[\s,]+([0-9]{1,9})(?:[\s,/]+([01]?\.?\d+))?\s*\)"
)
