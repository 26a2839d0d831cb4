"""Collects the texts of the pages into `messages.pot`, and brings each `*.po` up to date with it.

    python -m mailer.catalogue.collecting [LANGUAGE]

This creates the file of a new LANGUAGE.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Final

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

from mailer.catalogue import FOLDER

TEMPLATE: Final = FOLDER / "messages.pot"
# Pages for the operator, in English like the command line.
_NOT_FOR_READERS: Final = frozenset(
    {"message.html", "outbox.html", "preview.html", "check.html", "outbox.py", "preview.py"}
)
_METHODS: Final = [("**.py", "python"), ("pages/**.html", "jinja2")]
_OPTIONS: Final = {"pages/**.html": {"trimmed": "true", "trim_blocks": "true", "lstrip_blocks": "true"}}
_MAIL: Final = [("**.j2", "jinja2")]
_MAIL_OPTIONS: Final = {"**.j2": {"trim_blocks": "true", "lstrip_blocks": "true"}}
_KEYWORDS: Final = {"say": None, "marked": None, "_": None, "gettext": None, "ngettext": (1, 2)}

# Header fields that change from day to day, or that stay empty.
_UNUSED: Final = tuple(
    f'"{field}:'
    for field in (
        "Project-Id-Version",
        "Report-Msgid-Bugs-To",
        "POT-Creation-Date",
        "PO-Revision-Date",
        "Last-Translator",
        "Language-Team",
        "Generated-By",
    )
)


def readers_pages() -> list[Path]:
    """Return the templates whose texts belong in the catalogue."""
    pages = FOLDER.parent / "web" / "pages"
    return sorted(page for page in pages.glob("*.html") if page.name not in _NOT_FOR_READERS)


def collected() -> Catalog:
    """Return the texts of the pages, the rendering and the email templates, with the files of each."""
    catalog = Catalog(project="mailer", charset="utf-8", fuzzy=False)
    web = FOLDER.parent / "web"
    found = extract_from_dir(web, _METHODS, _OPTIONS, keywords=_KEYWORDS, comment_tags=("For translators:",))
    for file, _, text, comments, context in sorted(found, key=lambda one: (one[0], one[1])):
        if Path(file).name not in _NOT_FOR_READERS:
            catalog.add(text, locations=[(f"web/{file}", 0)], auto_comments=comments, context=context)
    rendering = FOLDER.parent / "rendering"
    for file, _, text, comments, context in sorted(
        extract_from_dir(rendering, [("*.py", "python")], keywords=_KEYWORDS),
        key=lambda one: (one[0], one[1]),
    ):
        catalog.add(text, locations=[(f"rendering/{file}", 0)], auto_comments=comments, context=context)
    templates = FOLDER.parents[1] / "email_templates"
    said = extract_from_dir(templates, _MAIL, _MAIL_OPTIONS, keywords=_KEYWORDS)
    for file, _, text, comments, context in sorted(said, key=lambda one: (one[0], one[1])):
        catalog.add(text, locations=[(f"email_templates/{file}", 0)], auto_comments=comments, context=context)
    return catalog


def main(languages: list[str]) -> None:
    """Write the template, and update every language that exists or is named."""
    template = collected()
    _write(TEMPLATE, template)
    for file in sorted({*FOLDER.glob("*.po"), *(FOLDER / f"{language}.po" for language in languages)}):
        locale = file.stem.replace("-", "_")
        catalog = Catalog(locale=locale, project="mailer", fuzzy=False)
        if file.exists():
            with file.open("rb") as opened:
                catalog = read_po(opened, locale=locale)
        catalog.update(template, no_fuzzy_matching=True)
        _write(file, catalog)


def _write(file: Path, catalog: Catalog) -> None:
    """Write a catalogue that changes only with its texts: no dates, no line numbers."""
    catalog.header_comment = f"# Texts for readers: {file.stem}."
    content = io.BytesIO()
    write_po(content, catalog, width=100, include_lineno=False, ignore_obsolete=True)
    lines = content.getvalue().decode().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not line.startswith(_UNUSED)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
