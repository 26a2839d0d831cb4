"""The theme of our pages: the brand's colours as a style sheet, and the templates in `pages/`.

Pages for readers are in the language that the browser requests.
"""

from __future__ import annotations

from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, Final

from babel.dates import format_date
from jinja2 import (
    BytecodeCache,
    ChoiceLoader,
    Environment,
    FileSystemLoader,
    PrefixLoader,
    StrictUndefined,
    TemplateSyntaxError,
    pass_context,
)
from jinja2.bccache import Bucket
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from mailer.address import check_header_text
from mailer.catalogue import SOURCE_LANGUAGE, Catalogue, Texts
from mailer.config import Brand, Settings
from mailer.errors import AddressError, SourceError
from mailer.rendering.colour import READABLE, contrast, mixed, readable
from mailer.web.forms import MAX_NAME

PAGES: Final = Path(__file__).parent / "pages"
_NIGHT: Final = "#121417"
_NIGHT_SURFACE: Final = "#1b1e23"
_NIGHT_TEXT: Final = "#e4e2dd"


class PageText:
    """The pages and their texts in one language."""

    def __init__(self, texts: Texts, environment: Environment) -> None:
        self.say = texts.say
        self.language = texts.language
        self._locale = texts.locale
        self._environment = environment
        self._headers = {"content-language": texts.language, "vary": "accept-language"}

    def page(self, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """Return a template's page, filled in and escaped."""
        return HTMLResponse(self.rendered(template, **values), status, self._headers)

    def rendered(self, template: str, **values: Any) -> str:
        """Return the HTML of a template."""
        return self._environment.get_template(template).render(values, locale=self._locale)

    def notice(self, status: int, title: str, text: str) -> HTMLResponse:
        """Return a page with one message; both texts are in this language already."""
        return self.page("notice.html", status=status, title=title, text=text)


class Theme:
    """Renders pages. `name` and `language` are the newsletter's; `brand` gives colours and fonts.

    `own` is the newsletter's templates folder: its `texts/` holds catalogues, `pages/` pages that replace
    ours, and `pages/static/` their images and fonts. Raises `ConfigError` for a catalogue and `SourceError`
    for a page that cannot be read.
    """

    def __init__(self, brand: Brand, *, name: str, language: str, own: Path | None = None) -> None:
        self._catalogue = Catalogue(own and own / "texts")
        self._otherwise = language
        pages = own and own / "pages"
        self.static = pages / "static" if pages and (pages / "static").is_dir() else None
        """The folder with the files of the operator's own pages, if there is one."""
        named = Markup('<span lang="{}">{}</span>').format(language, name)
        shared = {"newsletter": name, "language": language, "named": named}
        self._pages = cache(lambda tag: _translated(_environment(pages), self._catalogue.of(tag), shared))
        _check(pages)
        self.stylesheet = (
            _environment(pages)
            .get_template("style.css")
            .render(
                font=brand.font,
                heading_font=brand.heading_font,
                day=_palette(brand.accent, brand.text, brand.background, brand.surface),
                # Small light text on a dark background needs more contrast to be as legible.
                night=_palette(brand.accent, _NIGHT_TEXT, _NIGHT, _NIGHT_SURFACE, least=6.5),
            )
        )

    def to(self, request: Request) -> PageText:
        """Return the pages in the language that the browser requests, or in the newsletter's."""
        accepted = request.headers.get("accept-language", "")
        return self._page_texts(self._catalogue.best(accepted, otherwise=self._otherwise))

    def speaking(self, language: str) -> PageText:
        """Return the pages in a language, or in English if we do not have it."""
        return self._page_texts(self._catalogue.of(language))

    def _page_texts(self, texts: Texts) -> PageText:
        return PageText(texts, self._pages(texts.language))

    def page(self, template: str, **values: Any) -> HTMLResponse:
        """Return a page for the operator, in English."""
        return self.speaking(SOURCE_LANGUAGE).page(template, **values)

    def notice(self, status: int, title: str, text: str) -> HTMLResponse:
        """Return a page with one message for the operator, in English."""
        return self.speaking(SOURCE_LANGUAGE).notice(status, title, text)

    def style(self) -> Response:
        """Return the style sheet."""
        return Response(
            self.stylesheet, media_type="text/css", headers={"cache-control": "public, max-age=3600"}
        )


def theme_of(settings: Settings) -> Theme:
    """Return the theme of a newsletter's settings and its own templates."""
    newsletter, own = settings.newsletter, settings.path(settings.paths.templates)
    return Theme(settings.brand, name=newsletter.name, language=newsletter.language, own=own)


def masked(address: str) -> str:
    """Return an address in a form that only its owner recognises: `j•••@example.org`.

    People forward emails together with their links.
    """
    local, _, domain = address.rpartition("@")
    return f"{local[:1]}•••@{domain}"


def name_problem(texts: PageText, name: str) -> str:
    """Return the error in the name that a reader typed, or an empty string."""
    if len(name) > MAX_NAME:
        return texts.say("The name is longer than %(most)s characters.", most=MAX_NAME)
    try:
        check_header_text(name, field="name")
    except AddressError:
        return texts.say("The name contains characters that are not allowed in an email.")
    return ""


def _palette(
    accent: str, text: str, background: str, surface: str, *, least: float = READABLE
) -> dict[str, str]:
    """Return the colours for one scheme, each made readable where it is used (WCAG 2.2 AA)."""
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
        "danger": readable("#b3261e", surface, background, least=least),
    }


class _Compiled(BytecodeCache):
    """Compiled pages, shared by the environments of all languages."""

    def __init__(self) -> None:
        self._pages: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """Implement `jinja2.BytecodeCache`."""
        if (page := self._pages.get(bucket.key)) is not None:
            bucket.bytecode_from_string(page)

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Implement `jinja2.BytecodeCache`."""
        self._pages[bucket.key] = bucket.bytecode_to_string()


_COMPILED: Final = _Compiled()


def _environment(own: Path | None = None) -> Environment:
    folders = [PAGES] if own is None else [own, PAGES]
    environment = SandboxedEnvironment(
        # The operator's own page can extend the one that it replaces, by this name.
        loader=ChoiceLoader([FileSystemLoader(folders), PrefixLoader({"shipped": FileSystemLoader(PAGES)})]),
        extensions=["jinja2.ext.i18n"],
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        bytecode_cache=_COMPILED,
    )
    environment.filters |= {"octets": _octets, "day": _day}
    # Pages are compiled in the same way whether or not there are translations yet.
    extended: Any = environment
    extended.install_null_translations(newstyle=True)
    return environment


def _check(own: Path | None) -> None:
    """Read all of the operator's own pages, so that mistakes show at startup and not to readers."""
    if own is None or not own.is_dir():
        return
    environment = _environment(own)
    for page in sorted([*own.glob("*.html"), *own.glob("*.css")]):
        try:
            environment.get_template(page.name)
        except TemplateSyntaxError as error:
            raise SourceError(f"{page}:{error.lineno}: {error.message}", remedy="correct the page") from error
        except (OSError, UnicodeError) as error:
            raise SourceError(f"{page}: cannot be read ({error})") from error


def _translated(environment: Environment, texts: Texts, shared: dict[str, Any]) -> Environment:
    # The extension adds its functions when it is loaded, which its types do not show.
    extended: Any = environment
    extended.install_gettext_translations(texts.translations, newstyle=True)
    environment.globals |= shared | {"page_language": texts.language, "direction": texts.direction}
    return environment


@pass_context
def _day(context: Context, at: date) -> str:
    return format_date(at, format="long", locale=context["locale"])


def _octets(size: int) -> str:
    if size < 1000:
        return f"{size} B"
    return f"{size / 1000:.1f} kB" if size < 1_000_000 else f"{size / 1_000_000:.1f} MB"
