"""Check the issue as its author wrote it, for mistakes that leave no trace in the message."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Final

from mailer.rendering.lint.findings import Finding
from mailer.rendering.lint.mail import Mail

_CONFLICT: Final = re.compile(r"^(?:<{7}|>{7})(?: .*)?$", re.MULTILINE)
_SPACED_LINK: Final = re.compile(r"\][ \t]+\((?:https?://|mailto:)[^)\s]*\)")
_BLOCK: Final = re.compile(r"^ {0,3}:::+[ \t]*(\w*)", re.MULTILINE)
_ATTRIBUTES: Final = re.compile(r"(?<=[)\]`*_])\{([^{}\n%#]{1,200})\}|^\{([^{}\n%#]{1,200})\}$", re.MULTILINE)
_CLASSES: Final = ("button", "quiet")
_NAMES: Final = ("width", "height", "dir", "lang", "title", "alt", "class")
_CODE_SPAN: Final = re.compile(r"(?<!`)(`+)(?!`)([^\n]{0,500}?\{[{%][^\n]{0,500}?)(?<!`)\1(?!`)")
_QUOTED: Final = re.compile(r"[“„«‘].*[”“»’]")


def merge_conflict(mail: Mail) -> Iterator[Finding]:
    """Find the marks of a merge that was not finished."""
    if found := _CONFLICT.search(mail.prose):
        yield mail.finding("merge-conflict", f"readers see '{found[0][:60]}'", at=found[0])


def broken_markup(mail: Mail) -> Iterator[Finding]:
    """Find Markdown that changes what readers see without leaving its signs behind."""
    source = mail.prose
    for found in _SPACED_LINK.finditer(source):
        yield mail.finding(
            "leftover-markup", "a space separates a link from its address", at=found[0],
            remedy="write [words](https://…) without a space between",
        )  # fmt: skip
    opened: list[str] = []
    for found in _BLOCK.finditer(source):
        if found[1]:
            opened.append(found[0].strip())
        elif opened:
            opened.pop()
    for mark in opened[:1]:
        yield mail.finding("leftover-markup", f"the block '{mark}' is not closed", at=mark,
                           remedy="close it with ::: on a line of its own")  # fmt: skip


def unknown_attributes(mail: Mail) -> Iterator[Finding]:
    """Find attributes in braces that do not exist, and so have no effect."""
    for found in _ATTRIBUTES.finditer(mail.prose):
        for word in (found[1] or found[2]).split():
            name, equals, _ = word.partition("=")
            known = _NAMES if equals else _CLASSES
            bare = name.removeprefix(".")
            if name.startswith("#") or bare in known or not re.fullmatch(r"\.?[A-Za-z][\w-]*", name):
                continue
            if equals or name.startswith("."):
                near = get_close_matches(bare, known, n=1)
                hint = f"; did you mean '{near[0]}'?" if near else ""
                yield mail.finding("unknown-attribute", f"'{word}' has no effect{hint}", at=found[0])


def buttons_in_text(mail: Mail) -> Iterator[Finding]:
    """Find links with the class of a button that are part of a sentence, and so are drawn as links."""
    for element in mail.elements:
        if element.tag == "a" and "button" in (element.get("class") or "").split():
            words = " ".join("".join(map(str, element.itertext())).split())
            yield mail.finding(
                "unknown-attribute", f"'{words[:40]}' is a link, because a sentence cannot contain a button",
                at=words, remedy="write it in a paragraph of its own, with an empty line before and after",
            )  # fmt: skip


def odd_date(mail: Mail) -> Iterator[Finding]:
    """Find a date of another year, which is often copied from an earlier issue."""
    date, today = mail.issue.date, mail.today
    if date is not None and today is not None and abs((date - today).days) > 31 and date.year != today.year:
        yield mail.finding(
            "odd-date", f"the issue is dated {date.isoformat()}, and this is {today.year}", key="date"
        )


def curly_quotes(mail: Mail) -> Iterator[Finding]:
    """Find front-matter values between curly quotes, which readers see."""
    for key in ("title", "subtitle", "subject", "preheader", "author"):
        value = str(getattr(mail.issue, key)).strip()
        if _QUOTED.fullmatch(value) and key in dict(mail.issue.key_lines):
            yield mail.finding("curly-quotes", f"the {key} is between curly quotes: {value[:60]}", key=key)


def repeated_heading(mail: Mail) -> Iterator[Finding]:
    """Find headings with the same words, one right below the other's level."""
    seen: set[tuple[str, str]] = set()
    for element in mail.elements:
        if not re.fullmatch(r"h[2-6]", str(element.tag)) or element in mail.hidden:
            continue
        words = " ".join("".join(map(str, element.itertext())).split())
        if words and (str(element.tag), words) in seen:
            # The second search finds the second heading.
            mail.finding("repeated-heading", "", at=words)
            yield mail.finding("repeated-heading", f"there is another heading '{words[:60]}'", at=words)
        seen.add((str(element.tag), words))


def fields_in_code(mail: Mail) -> Iterator[Finding]:
    """Find fields and statements between backquotes, which stay as they are written."""
    if found := _CODE_SPAN.search(mail.issue.body):
        yield mail.finding("fields-in-code", f"readers see {found[2].strip()[:60]} as it is", at=found[0])


def opens(mail: Mail) -> Iterator[Finding]:
    """Find issues for which opens decide: machines open messages, and many readers leave no trace."""
    if mail.issue.resend is not None and mail.issue.resend.without == "opens":
        said = "readers whose program shows no images count as if they had not opened the issue"
        yield mail.finding("opens", said, key="resend", remedy="resend it without clicks")
    if mail.edition.test is not None and mail.edition.test.by == "opens":
        yield mail.finding("opens", "programs that load all images count as openers", key="test")


RULES: Final = (
    merge_conflict, broken_markup, unknown_attributes, buttons_in_text, odd_date, curly_quotes,
    repeated_heading, fields_in_code, opens,
)  # fmt: skip
