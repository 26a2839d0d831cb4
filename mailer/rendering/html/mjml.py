"""Check MJML, rewrite it so that the converter handles it correctly, and convert it to HTML.

The converter (mrml) writes attribute values as Rust would print them: a quote becomes `\\"` and
ends the attribute, an emoji becomes `\\u{fe0f}`. It drops white space between elements, accepts
unknown tags, and crashes on deep nesting. So expat reads every document first, which also rejects
malformed ones, and it is rewritten without anything that the converter would change.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from html.entities import html5
from typing import Final
from xml.parsers import expat

from mjml import mjml2html

from mailer.errors import SourceError
from mailer.rendering.html.mjml_vocabulary import ATTRIBUTES, ELEMENTS, PARENTS
from mailer.rendering.templating.origins import Locate

MAX_CHARACTERS: Final = 1_000_000
MAX_DEPTH: Final = 40
_ENTITY: Final = re.compile(r"&([A-Za-z][A-Za-z0-9]*);")
_XML_ENTITIES: Final = frozenset({"amp", "lt", "gt", "quot", "apos"})
_DOCTYPE: Final = re.compile(r"(?i)<!doctype")
_RESIDUE: Final = re.compile(r'\\u\{|\\"')
# A column becomes a table, and raw content in it is inserted between the rows.
_BETWEEN_ROWS: Final = (["mj-column", "mj-raw"], ["mj-hero", "mj-raw"])
_VOID: Final = frozenset({"br", "hr", "img", "wbr", "meta", "input", "col", "link", "area"})


def to_html(mjml: str, place: str, locate: Locate | None = None) -> str:
    """Return the HTML of an MJML document; `place` names it in errors, and `locate` a place in it."""
    safe = safe_mjml(mjml, place, locate)
    try:
        html = str(mjml2html(safe, fonts={}))
    except ValueError as error:
        raise SourceError(f"{place}: {error}", remedy="correct the template") from error
    if _RESIDUE.search(html):
        raise SourceError(f"{place}: the converter damaged an attribute", remedy="simplify its value")
    return html


def safe_mjml(mjml: str, place: str, locate: Locate | None = None) -> str:
    """Return `mjml` rewritten for the converter, or raise `SourceError` with line and suggestion."""
    locate = locate or (lambda line, column: f"{place}, line {line} after filling")
    if len(mjml) > MAX_CHARACTERS:
        raise SourceError(f"{place}: more than {MAX_CHARACTERS:,} characters", remedy="shorten the template")
    if doctype := _DOCTYPE.search(mjml):
        raise SourceError(
            f"{locate(*_position(mjml, doctype.start()))}: a template has no doctype", remedy="remove it"
        )
    numeric = _ENTITY.sub(lambda found: _numeric(found, mjml, locate), mjml)
    writer = _Writer(locate)
    try:
        writer.parser.Parse(numeric.encode(), True)
    except expat.ExpatError as error:
        raise writer.malformed(error, mjml) from error
    return "".join(writer.out)


def _position(text: str, offset: int) -> tuple[int, int]:
    """Return line, from 1, and column, from 0."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset) - 1


def _numeric(found: re.Match[str], mjml: str, locate: Locate) -> str:
    """Return an HTML entity as character references, which XML knows too."""
    if found[1] in _XML_ENTITIES:
        return found[0]
    characters = html5.get(found[1] + ";")
    if characters is None:
        place = locate(*_position(mjml, found.start()))
        raise SourceError(f"{place}: unknown entity {found[0]}", remedy="write &amp;")
    return "".join(f"&#{ord(character)};" for character in characters)


class _Writer:
    """Checks expat's events and writes them out as MJML."""

    def __init__(self, locate: Locate) -> None:
        self.locate = locate
        self.out: list[str] = []
        self.open: list[str] = []
        self.opened_at: list[tuple[int, int]] = []
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.ordered_attributes = True
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.text
        self.parser.CommentHandler = self.comment

    def start(self, name: str, attributes: list[str]) -> None:
        if len(self.open) >= MAX_DEPTH:
            raise self.error(
                f"<{name}> is nested more than {MAX_DEPTH} elements deep", "flatten the template"
            )
        pairs = list(zip(attributes[::2], attributes[1::2], strict=True))
        if name.startswith("mj"):
            self.check(name, [key for key, _ in pairs])
        elif self.open[-2:] in _BETWEEN_ROWS and name != "tr":
            raise self.error(f"<{name}> would be placed between the rows of a table", "write it in <mj-text>")
        self.open.append(name)
        self.opened_at.append((self.parser.CurrentLineNumber, self.parser.CurrentColumnNumber))
        self.out.append("<" + name + "".join(f' {key}="{_attribute(value)}"' for key, value in pairs))
        self.out.append("/>" if name in _VOID else ">")

    def end(self, name: str) -> None:
        self.open.pop()
        self.opened_at.pop()
        if name not in _VOID:
            self.out.append(f"</{name}>")

    def text(self, text: str) -> None:
        inside = self.open[-1] if self.open else ""
        if not text.strip():
            if inside.startswith("mj") and inside not in ("mj-text", "mj-button", "mj-raw", "mj-table"):
                return
            text = "&#10;" if "pre" in self.open else " "
            self.out.append(text)
            return
        if "mj-style" in self.open:
            self.out.append(text)
            return
        if inside == "mj-title":
            # The converter repeats the title as an attribute.
            self.out.append(_attribute(text))
            return
        escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        # So a backslash in the result comes from the converter.
        escaped = escaped.replace("\\", "&#92;")
        self.out.append(escaped.encode("ascii", "xmlcharrefreplace").decode())

    def comment(self, text: str) -> None:
        self.out.append(f"<!--{text}-->")

    def check(self, name: str, keys: list[str]) -> None:
        if name not in ELEMENTS:
            near = get_close_matches(name, ELEMENTS, n=1)
            raise self.error(
                f"<{name}> is not an MJML element", f"did you mean <{near[0]}>?" if near else "remove it"
            )
        if (inside := self.open[-1] if self.open else "") not in PARENTS[name]:
            right = " or ".join(f"<{parent}>" for parent in PARENTS[name] if parent != "mj-attributes")
            where = f"in <{inside}>" if inside else "by itself"
            raise self.error(
                f"<{name}> is not allowed {where}", f"put it into {right}" if right else "remove it"
            )
        known = ATTRIBUTES.get(name)
        if known is None:
            return
        for key in keys:
            if key not in known:
                near = get_close_matches(key, sorted(known), n=1)
                raise self.error(
                    f"<{name}> has no attribute '{key}'",
                    f"did you mean '{near[0]}'?" if near else f"it has {', '.join(sorted(known)) or 'none'}",
                )

    def error(self, problem: str, remedy: str) -> SourceError:
        place = self.locate(self.parser.CurrentLineNumber, self.parser.CurrentColumnNumber)
        return SourceError(f"{place}: {problem}", remedy=remedy)

    def malformed(self, error: expat.ExpatError, mjml: str) -> SourceError:
        """Return the error for malformed XML, at the opening tag if an element is not closed."""
        code = expat.errors.messages[error.code]
        if self.open and code in (expat.errors.XML_ERROR_TAG_MISMATCH, expat.errors.XML_ERROR_NO_ELEMENTS):
            place = self.locate(*self.opened_at[-1])
            said = self.locate(error.lineno, error.offset).rpartition("/")[2]
            return SourceError(
                f"{place}: <{self.open[-1]}> is not closed where {said} closes another element",
                remedy="close every element in the reverse order of opening",
            )
        lines = mjml.split("\n")
        line = lines[error.lineno - 1].strip()[:100] if error.lineno <= len(lines) else ""
        return SourceError(
            f"{self.locate(error.lineno, error.offset)}: {code}: {line}",
            remedy="close every tag and quote every attribute",
        )


def _attribute(value: str) -> str:
    escaped = value.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
    escaped = escaped.replace("\\", "&#92;")
    escaped = re.sub(r"[\r\n\t]", " ", escaped)
    return escaped.encode("ascii", "xmlcharrefreplace").decode()
