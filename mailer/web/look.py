"""The look of our pages: the brand's colours as a style sheet, and the templates in `pages/`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

from mailer.config import Brand
from mailer.rendering.colour import READABLE, contrast, mixed, readable

PAGES: Final = Path(__file__).parent / "pages"
_NIGHT: Final = "#121417"
_NIGHT_SURFACE: Final = "#1b1e23"
_NIGHT_TEXT: Final = "#e4e2dd"


class Look:
    """Renders pages. `name` and `language` are the newsletter's; `brand` gives colours and fonts."""

    def __init__(self, brand: Brand, *, name: str, language: str) -> None:
        environment = Environment(
            loader=FileSystemLoader(PAGES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.globals |= {"newsletter": name, "language": language}
        environment.filters |= {"day": _day, "octets": _octets}
        self._environment = environment
        self.stylesheet = environment.get_template("style.css").render(
            font=brand.font,
            heading_font=brand.heading_font,
            day=_palette(brand.accent, brand.text, brand.background, brand.surface),
            # Small light letters on dark need more contrast to be read as easily.
            night=_palette(brand.accent, _NIGHT_TEXT, _NIGHT, _NIGHT_SURFACE, least=6.5),
        )

    def page(self, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """Return the page of a template, filled and escaped."""
        return HTMLResponse(self._environment.get_template(template).render(values), status)

    def notice(self, status: int, title: str, text: str) -> HTMLResponse:
        """Return a page that says one thing."""
        return self.page("notice.html", status=status, title=title, text=text)

    def style(self) -> Response:
        """Return the style sheet."""
        return Response(
            self.stylesheet, media_type="text/css", headers={"cache-control": "public, max-age=3600"}
        )


def masked(address: str) -> str:
    """Return an address its owner recognises and a stranger does not learn: `j•••@example.org`.

    Mail is forwarded, and the links in it with it.
    """
    local, _, domain = address.rpartition("@")
    return f"{local[:1]}•••@{domain}"


def _palette(
    accent: str, text: str, background: str, surface: str, *, least: float = READABLE
) -> dict[str, str]:
    """Return a half of the style sheet's colours, each made readable where it is used (WCAG 2.2 AA)."""
    ink = readable(accent, surface, background, least=least)
    return {
        "accent": ink,
        "on_accent": max("#ffffff", "#111111", key=lambda colour: contrast(colour, ink)),
        "text": readable(text, surface, background),
        "quiet": readable(mixed(text, surface, 0.66), surface, background),
        "background": background,
        "surface": surface,
        "line": mixed(text, surface, 0.16),
        "border": readable(mixed(text, surface, 0.4), surface, background, least=3.0),
    }


def _day(at: datetime) -> str:
    return f"{at.day} {at:%B %Y}"


def _octets(size: int) -> str:
    if size < 1000:
        return f"{size} B"
    return f"{size / 1000:.1f} kB" if size < 1_000_000 else f"{size / 1_000_000:.1f} MB"
