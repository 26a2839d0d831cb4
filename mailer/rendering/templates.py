"""The operator's templates: `email_templates/`, compiled once and filled in for each issue."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from jinja2 import (
    Environment,
    FileSystemLoader,
    StrictUndefined,
    TemplateNotFound,
    TemplateSyntaxError,
    select_autoescape,
)
from jinja2.exceptions import UndefinedError

from mailer.catalogue import Catalogue
from mailer.errors import SourceError
from mailer.rendering.templating.filters import by_language, direction_of
from mailer.rendering.templating.origins import Locate, Marks, origin
from mailer.rendering.templating.slots import Slots
from mailer.rendering.text.directions import directed
from mailer.rendering.text.layout import heading, wrap


class _Loader(FileSystemLoader):
    """Replaces per-subscriber constructs with slots before Jinja compiles a template."""

    def __init__(self, directory: Path, slots: Slots) -> None:
        super().__init__(directory)
        self._slots = slots

    def get_source(self, environment: Environment, template: str) -> tuple[str, str, Callable[[], bool]]:
        """Return the source, its file and a check for changes; part of `jinja2.BaseLoader`."""
        source, file, unchanged = super().get_source(environment, template)
        try:
            return self._slots.protect(_PLAIN, source), file, unchanged
        except TemplateSyntaxError as error:
            raise TemplateSyntaxError(error.message or "", error.lineno, template, file) from error


_PLAIN: Final = Environment(autoescape=True)


class Templates:
    """The templates of one directory, compiled as they are used and again when they change."""

    def __init__(self, directory: Path, language: str = "en") -> None:
        self.directory = directory
        self.slots = Slots()
        self._language = language
        self.say = Catalogue(directory / "texts").of(language).say
        """Returns a text in the language."""
        self._environment = _environment(directory, language, self.slots, self.say)

    def render(self, name: str, values: Mapping[str, object]) -> str:
        """Return template `name`, filled in; raise `SourceError` with the template's file and line."""
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
                f"{self.directory / name}: the template includes itself", remedy="remove the circular include"
            ) from error
        except (UndefinedError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            place = _template_place(error, self.directory) or str(self.directory / name)
            raise SourceError(f"{place}: {error}", remedy="correct the template") from error

    def locate(self, name: str, values: Mapping[str, object]) -> Locate:
        """Return a function from a line and column of the filled template `name` to its file and line."""

        def place(line: int, column: int) -> str:
            marking = _environment(self.directory, self._language, Slots(), self.say)
            marking.add_extension(Marks)
            found = origin(marking.get_template(name).render(values), line, column)
            if found is None or not (self.directory / found[0]).is_file():
                return f"{self.directory / name}, line {line} after filling"
            return f"{self.directory / found[0]}:{found[1]}"

        return place

    def digest(self) -> str:
        """Return a SHA-256 over the names and contents of all templates, in hexadecimal."""
        summed = sha256()
        for path in sorted(self.directory.rglob("*.j2")):
            summed.update(path.relative_to(self.directory).as_posix().encode() + b"\0")
            summed.update(sha256(path.read_bytes()).digest())
        return summed.hexdigest()


def _environment(directory: Path, language: str, slots: Slots, say: Callable[..., str]) -> Environment:
    environment = Environment(
        loader=_Loader(directory, slots),
        autoescape=select_autoescape(("mjml.j2", "html.j2"), default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["say"] = say
    mark = directed if direction_of(language) == "rtl" else str
    environment.filters.update(
        by_language(language),
        heading=lambda *args: mark(heading(*args)),
        wrapped=lambda text, width=72: mark("\n".join(wrap(text, width))),
    )
    return environment


@lru_cache(maxsize=8)
def templates_in(directory: Path, language: str) -> Templates:
    """Return the templates of `directory` for a language; edited files are reloaded."""
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
