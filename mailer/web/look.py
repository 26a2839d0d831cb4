"""The look of our pages: the brand's colours as a style sheet, and the templates in `pages/`.

Each page for readers is said in the language that its reader asks for.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

from babel.dates import format_date
from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from mailer.address import check_header_text
from mailer.catalogue import SOURCE_LANGUAGE, Catalogue, Texts
from mailer.config import Brand
from mailer.errors import AddressError
from mailer.rendering.colour import READABLE, contrast, mixed, readable
from mailer.web.forms import MAX_NAME

PAGES: Final = Path(__file__).parent / "pages"
_NIGHT: Final = "#121417"
_NIGHT_SURFACE: Final = "#1b1e23"
_NIGHT_TEXT: Final = "#e4e2dd"


class Voice:
    """The pages in one language."""

    def __init__(self, texts: Texts, environment: Environment) -> None:
        self.say = texts.say
        self.language = texts.language
        self._locale = texts.locale
        self._environment = environment
        self._headers = {"content-language": texts.language, "vary": "accept-language"}

    def page(self, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """Return the page of a template, filled and escaped."""
        return HTMLResponse(self.rendered(template, **values), status, self._headers)

    def rendered(self, template: str, **values: Any) -> str:
        """Return the HTML of a template."""
        return self._environment.get_template(template).render(values, locale=self._locale)

    def notice(self, status: int, title: str, text: str) -> HTMLResponse:
        """Return a page that says one thing; both texts are in this language already."""
        return self.page("notice.html", status=status, title=title, text=text)


class Look:
    """Renders pages. `name` and `language` are the newsletter's; `brand` gives colours and fonts.

    `texts` is a folder with catalogues of the newsletter's own.
    """

    def __init__(self, brand: Brand, *, name: str, language: str, texts: Path | None = None) -> None:
        self._catalogue = Catalogue(texts)
        self._otherwise = language
        named = Markup('<span lang="{}">{}</span>').format(language, name)
        shared = {"newsletter": name, "language": language, "named": named}
        self._pages = cache(lambda tag: _translated(self._catalogue.of(tag), shared))
        self.stylesheet = (
            _environment()
            .get_template("style.css")
            .render(
                font=brand.font,
                heading_font=brand.heading_font,
                day=_palette(brand.accent, brand.text, brand.background, brand.surface),
                # Small light letters on dark need more contrast to be read as easily.
                night=_palette(brand.accent, _NIGHT_TEXT, _NIGHT, _NIGHT_SURFACE, least=6.5),
            )
        )

    def to(self, request: Request) -> Voice:
        """Return the pages in the language that a request asks for, or else in the newsletter's."""
        accepted = request.headers.get("accept-language", "")
        return self._voice(self._catalogue.best(accepted, otherwise=self._otherwise))

    def speaking(self, language: str) -> Voice:
        """Return the pages in a language, or in English where there is none."""
        return self._voice(self._catalogue.of(language))

    def _voice(self, texts: Texts) -> Voice:
        return Voice(texts, self._pages(texts.language))

    def page(self, template: str, **values: Any) -> HTMLResponse:
        """Return a page for the operator, in English."""
        return self.speaking(SOURCE_LANGUAGE).page(template, **values)

    def notice(self, status: int, title: str, text: str) -> HTMLResponse:
        """Return a page for the operator that says one thing, in English."""
        return self.speaking(SOURCE_LANGUAGE).notice(status, title, text)

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


def name_problem(voice: Voice, name: str) -> str:
    """Return what is wrong with a name that somebody typed, or nothing."""
    if len(name) > MAX_NAME:
        return voice.say("The name is longer than %(most)s characters.", most=MAX_NAME)
    try:
        check_header_text(name, field="name")
    except AddressError:
        return voice.say("The name holds characters that cannot stand in a mail.")
    return ""


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


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(PAGES),
        extensions=["jinja2.ext.i18n"],
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"octets": _octets, "day": _day}
    return environment


def _translated(texts: Texts, shared: dict[str, Any]) -> Environment:
    environment = _environment()
    # The extension adds its functions when it is loaded, which no type says.
    extended: Any = environment
    extended.install_gettext_translations(texts.translations, newstyle=True)
    environment.globals |= shared | {"page_language": texts.language, "direction": texts.direction}
    return environment


@pass_context
def _day(context: Context, at: datetime) -> str:
    return format_date(at, format="long", locale=context["locale"])


def _octets(size: int) -> str:
    if size < 1000:
        return f"{size} B"
    return f"{size / 1000:.1f} kB" if size < 1_000_000 else f"{size / 1_000_000:.1f} MB"
