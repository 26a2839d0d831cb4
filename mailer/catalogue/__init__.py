"""Translations of the pages and templates: English in the source, other languages in `*.po`.

Adding a file is enough to add a language. A newsletter may have a folder of its own: `texts/fr.po` adds
French; a `de.po` there overrides German texts, and translates those of config.toml.
"""

from __future__ import annotations

import gettext
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from babel import Locale, UnknownLocaleError
from babel.messages.catalog import Message
from babel.messages.mofile import write_mo
from babel.messages.pofile import PoFileError, read_po
from babel.numbers import format_decimal

from mailer.errors import ConfigError

SOURCE_LANGUAGE: Final = "en"
FOLDER: Final = Path(__file__).parent
_MOST_ASKED: Final = 20
_RANGE: Final = re.compile(
    r"([A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*|\*)(?:[ \t]*;[ \t]*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?"
)
_NAME: Final = re.compile(r"%\((\w+)\)s")


def marked(text: str) -> str:
    """Return `text` unchanged; this marks it for translation where it is used."""
    return text


class Texts:
    """The texts of one language; missing ones are in English."""

    def __init__(
        self, language: str, translations: gettext.NullTranslations, locale: Locale | None = None
    ) -> None:
        self.language = language
        self.locale = locale or Locale.parse(language, sep="-")
        self.translations = translations

    def in_region(self, wanted: str) -> Texts:
        """Return these texts with a region's date and number formats, such as those of `en-GB`."""
        region = next((part for part in wanted.split("-")[1:] if len(part) == 2), "")
        if not region or self.locale.territory:
            return self
        try:
            locale = Locale(self.locale.language, region.upper(), self.locale.script)
        except UnknownLocaleError:
            return self
        return Texts(self.language, self.translations, locale)

    @property
    def direction(self) -> str:
        """`ltr` or `rtl`, for HTML's `dir` attribute."""
        return "rtl" if self.locale.character_order == "right-to-left" else "ltr"

    def say(self, text: str, **values: str | int) -> str:
        """Return a text in this language, with `%(name)s` filled in and numbers formatted.

        Without values, `%` has no special meaning.
        """
        said = self.translations.gettext(text)
        return said % {name: self._written(value) for name, value in values.items()} if values else said

    def _written(self, value: str | int) -> str:
        return value if isinstance(value, str) else format_decimal(value, locale=self.locale)


class Catalogue:
    """The texts of the shipped languages, and of those in the newsletter's own folder.

    Raises `ConfigError` for a file that cannot be read.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._texts = {SOURCE_LANGUAGE: Texts(SOURCE_LANGUAGE, gettext.NullTranslations())}
        # A shipped file is read when its language is first used; those in `folder` are checked right away.
        self._shipped = {_language_of(file): file for file in sorted(FOLDER.glob("*.po"))}
        for file in sorted(folder.glob("*.po")) if folder is not None else ():
            self._add(file, self._loaded(_language_of(file)))

    @property
    def languages(self) -> tuple[str, ...]:
        """The available languages, as BCP 47 tags."""
        return tuple(sorted({*self._texts, *self._shipped}))

    def of(self, language: str) -> Texts:
        """Return the texts of a language, of a wider one (`de` for `de-AT`), or English."""
        return self._known(language) or self._texts[SOURCE_LANGUAGE]

    def best(self, accepted: str, *, otherwise: str) -> Texts:
        """Return the texts that an `Accept-Language` header prefers (RFC 9110 section 12.5.4).

        `otherwise` is the language if the header accepts any, or none that is available.
        """
        for wanted in _accepted(accepted):
            if wanted == "*":
                break
            if known := self._known(wanted):
                return known.in_region(wanted)
        return self.of(otherwise)

    def _known(self, language: str) -> Texts | None:
        by_tag = {known.lower(): known for known in self.languages}
        parts = language.lower().split("-")
        while parts:
            if found := by_tag.get("-".join(parts)):
                return self._loaded(found)
            parts.pop()
        return None

    def _loaded(self, language: str) -> Texts | None:
        if language not in self._texts and language in self._shipped:
            self._add(self._shipped[language], None)
        return self._texts.get(language)

    def _add(self, file: Path, before: Texts | None) -> None:
        """Read a file; texts that it lacks come from `before`."""
        language = _language_of(file)
        compiled = io.BytesIO()
        try:
            with file.open("rb") as opened:
                catalog = read_po(opened, locale=language.replace("-", "_"), abort_invalid=True)
            for message in catalog:
                _check(message)
            write_mo(compiled, catalog)
            compiled.seek(0)
            translations = gettext.GNUTranslations(compiled)
            if before is not None:
                translations.add_fallback(before.translations)
            self._texts[language] = Texts(language, translations)
        except (OSError, ValueError, UnknownLocaleError, PoFileError) as error:
            raise ConfigError(
                f"{file}: {error}", remedy="name it LANGUAGE.po; msgfmt -c finds mistakes"
            ) from error


def _language_of(file: Path) -> str:
    return file.stem.replace("_", "-")


def _check(message: Message) -> None:
    """Raise `ValueError` for a translation whose values cannot be filled in."""
    english = _forms(message.id)
    names = {name: "" for text in english for name in _NAME.findall(text)}
    # Texts from config.toml may contain a bare % and are never filled in.
    if message.id and all(_fills(text, names) for text in english):
        for text in _forms(message.string):
            if not _fills(text, names):
                raise ValueError(
                    f"line {message.lineno}: '{text}' must contain the same %(…)s as the English text"
                )


def _fills(text: str, names: dict[str, str]) -> bool:
    try:
        text % names
    except (KeyError, TypeError, ValueError):
        return False
    return True


def _forms(text: str | Iterable[str] | None) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else tuple(text or ())


def _accepted(header: str) -> Iterator[str]:
    """Yield the languages of an Accept-Language header in order of preference."""
    ranges = []
    for place, entry in enumerate(header.split(",", _MOST_ASKED)[:_MOST_ASKED]):
        if found := _RANGE.fullmatch(entry.strip()):
            weight = float(found[2] or 1)
            if weight > 0:
                ranges.append((-weight, place, found[1]))
    for _, _, wanted in sorted(ranges):
        yield wanted
