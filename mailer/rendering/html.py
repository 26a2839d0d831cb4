"""From the templates and a body to one inlined HTML document, and the text around it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any, Final

from jinja2 import (
    Environment,
    FileSystemLoader,
    StrictUndefined,
    TemplateError,
    TemplateNotFound,
    TemplateSyntaxError,
    select_autoescape,
)
from jinja2.exceptions import UndefinedError
from msgspec import json

from mailer.config import Brand, Newsletter
from mailer.errors import SourceError
from mailer.rendering.colour import contrast, mixed, readable
from mailer.rendering.filters import by_language
from mailer.rendering.inlining import inlined
from mailer.rendering.kept import CompiledTemplates
from mailer.rendering.mjml import to_html
from mailer.rendering.origins import Locate, Marks, origin
from mailer.rendering.slots import Slots
from mailer.rendering.text import heading, wrap

BODY: Final = "xbodygoeshere"
# Without it, clients go on after the preheader and show the first words of the mail.
_PADDING: Final = "&#847;&zwnj;&nbsp;" * 60
_KEPT: Final = ' data-premailer="ignore"'


class _Loader(FileSystemLoader):
    """Takes what differs per subscriber out of every template before Jinja compiles it."""

    def __init__(self, directory: Path, slots: Slots) -> None:
        super().__init__(directory)
        self._slots = slots

    def get_source(self, environment: Environment, template: str) -> tuple[str, str, Callable[[], bool]]:
        """Return the source, its file and whether it is still the same; part of `jinja2.BaseLoader`."""
        source, file, unchanged = super().get_source(environment, template)
        try:
            return self._slots.protect(_PLAIN, source), file, unchanged
        except TemplateSyntaxError as error:
            raise TemplateSyntaxError(error.message or "", error.lineno, template, file) from error


_PLAIN: Final = Environment(autoescape=True)


_File = tuple[str, int, int, int]


class Templates:
    """The operator's templates in one directory, compiled as they are used."""

    def __init__(self, directory: Path, language: str = "en") -> None:
        self.directory = directory
        self.slots = Slots()
        self._summed: tuple[tuple[_File, ...], str] | None = None
        """What the files looked like, and the digest that they had."""
        self._styled: tuple[tuple[object, ...], tuple[str, str]] | None = None
        """What the style sheets were made of, and what came of it."""
        self._language = language
        self._environment = _environment(directory, language, self.slots)
        self._environment.bytecode_cache = CompiledTemplates(language)

    def render(self, name: str, values: Mapping[str, Any]) -> str:
        """Return template `name` filled; raise `SourceError` at the template's file and line."""
        try:
            return self._environment.get_template(name).render(values)
        except TemplateNotFound as error:
            raise SourceError(
                f"{self.directory / (error.name or name)}: there is no such template",
                remedy="restore it from the project's email_templates/",
            ) from error
        except TemplateSyntaxError as error:
            place = f"{self.directory / (error.name or name)}:{error.lineno}"
            raise SourceError(f"{place}: {error.message}", remedy="correct the template") from error
        except RecursionError as error:
            raise SourceError(
                f"{self.directory / name}: the template includes itself", remedy="break the circle"
            ) from error
        except (UndefinedError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            place = _template_place(error, self.directory) or str(self.directory / name)
            raise SourceError(f"{place}: {error}", remedy="correct the template") from error

    def locate(self, name: str, values: Mapping[str, Any]) -> Locate:
        """Return what finds the file and line behind a place in the filled template `name`."""

        def place(line: int, column: int) -> str:
            marking = _environment(self.directory, self._language, Slots())
            marking.add_extension(Marks)
            found = origin(marking.get_template(name).render(values), line, column)
            if found is None or not (self.directory / found[0]).is_file():
                return f"{self.directory / name}, line {line} after filling"
            return f"{self.directory / found[0]}:{found[1]}"

        return place

    def digest(self) -> str:
        """Return SHA-256 over the names and contents of all templates."""
        state = tuple(sorted(_files(str(self.directory))))
        if self._summed is None or self._summed[0] != state:
            summed = sha256()
            for path in sorted(Path(name) for name, *_ in state):
                summed.update(path.relative_to(self.directory).as_posix().encode() + b"\0")
                summed.update(sha256(path.read_bytes()).digest())
            self._summed = state, summed.hexdigest()
        return self._summed[1]

    def style_sheets(
        self, newsletter: Newsletter, brand: Brand, colour: Mapping[str, str]
    ) -> tuple[str, str]:
        """Return what goes onto the elements and what goes into the head: the same for every issue."""
        names = ("inline.css.j2", "head.css.j2")
        try:
            made_of = tuple(self._environment.get_template(name) for name in names)
        except TemplateError:
            made_of = ()
        look = (made_of, json.encode(newsletter), json.encode(brand))
        if self._styled is None or not made_of or self._styled[0] != look:
            values = {"newsletter": newsletter, "brand": brand, "colour": colour}
            inline, head = (self.render(name, values) for name in names)
            self._styled = look, (inline, head)
        return self._styled[1]


def _environment(directory: Path, language: str, slots: Slots) -> Environment:
    environment = Environment(
        loader=_Loader(directory, slots),
        autoescape=select_autoescape(("mjml.j2", "html.j2"), default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["say"] = _words_of(language, directory / "texts")
    environment.filters.update(
        by_language(language),
        heading=heading,
        wrapped=lambda text, width=72: "\n".join(wrap(text, width)),
    )
    return environment


def _words_of(language: str, folder: Path) -> Callable[..., str]:
    """Return what says a text of the templates in a language, as the catalogue or `folder` has it."""
    if language.partition("-")[0].lower() == "en" and not folder.is_dir():
        return lambda text, **values: text % values if values else text
    # Loaded for those who write in another language: reading it takes as long as an issue.
    from mailer.catalogue import Catalogue

    return Catalogue(folder).of(language).say


def _files(directory: str) -> Iterator[_File]:
    """Yield the path of each template and what tells that it was changed."""
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _files(entry.path)
            elif entry.name.endswith(".j2"):
                stat = entry.stat()
                yield entry.path, stat.st_mtime_ns, stat.st_size, stat.st_ino


@lru_cache(maxsize=8)
def templates_in(directory: Path, language: str) -> Templates:
    """Return the templates of `directory`; edited files are read again."""
    return Templates(directory, language)


def _template_place(error: BaseException, directory: Path) -> str | None:
    """Return `file:line` of the innermost template in the traceback of `error`."""
    place, step = None, error.__traceback__
    while step is not None:
        name = step.tb_frame.f_code.co_filename
        if name.startswith(str(directory)):
            place = f"{name}:{step.tb_lineno}"
        step = step.tb_next
    return place


def palette(brand: Brand) -> dict[str, str]:
    """Return every colour of a mail, light and dark, each text readable on its surface."""
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


def document(
    mjml: str,
    body: str,
    inline_css: str,
    head_css: str,
    preheader: str,
    place: str,
    *,
    locate: Locate | None = None,
) -> str:
    """Return the inlined document: MJML converted, `body` set in, styles put on the elements.

    The body never passes through the MJML converter, which escapes attributes wrongly and drops
    white space; `mjml` holds `BODY` where it goes. `place` names the template in errors, and `locate` the
    file and line behind a place in `mjml`.
    """
    _refuse_at_rules(inline_css)
    html = to_html(mjml, place, locate)
    if html.count(BODY) != 1:
        raise SourceError(
            f"{place}: the body is there {html.count(BODY)} times", remedy="write {{ body }} once"
        )
    html = html.replace("<!doctype html>", "<!DOCTYPE html>", 1)
    html = html.replace(BODY, body, 1)
    if preheader:
        hidden = f'<div class="preheader" style="{_HIDDEN}">{escape(preheader)}{_PADDING}</div>'
        html = re.sub(r"<body[^>]*>", lambda found: found[0] + hidden, html, count=1)
    head = f'{_META}<style type="text/css">{head_css}</style></head>'
    html = html.replace("</head>", head, 1).replace("<style", f"<style{_KEPT}")
    return inlined(html, inline_css).replace(_KEPT, "")


def _refuse_at_rules(css: str) -> None:
    """Raise `SourceError` for `@import` and its like, whose files the CSS parser would read."""
    bare = _CSS_COMMENT.sub(lambda found: "\n" * found[0].count("\n"), css)
    if "@" in bare:
        line = bare.count("\n", 0, bare.index("@")) + 1
        raise SourceError(
            f"inline.css.j2:{line} after filling: an @ rule cannot be put on an element",
            remedy="move it to head.css.j2",
        )


_CSS_COMMENT: Final = re.compile(r"/\*.*?\*/", re.DOTALL)


_HIDDEN: Final = (
    "display:none;font-size:1px;line-height:1px;max-height:0;max-width:0;"
    "opacity:0;overflow:hidden;mso-hide:all"
)
_META: Final = (
    '<meta name="color-scheme" content="light dark">'
    '<meta name="supported-color-schemes" content="light dark">'
)
