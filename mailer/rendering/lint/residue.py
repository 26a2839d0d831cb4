"""Find Markdown, tags and addresses that were not understood and reach readers as typed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from mailer.printable import counted
from mailer.rendering.lint.findings import Finding
from mailer.rendering.lint.mail import Mail
from mailer.rendering.source.raw_html import REMOVED, is_element

# A pattern, the problem, and the remedy.
_MARKUP: Final = tuple(
    (re.compile(pattern, re.MULTILINE), problem, remedy)
    for pattern, problem, remedy in (
        (r"\*\*", "'**' marks nothing as bold", "leave no space between ** and the word"),
        (r"\]\([^)\s]*\)?", "a link is malformed", "write [words](https://example.org/page)"),
        (r"\]\[[^\]]*\]|!\[", "a link or image has no address", "write its address: [words](https://…)"),
        (r"\[\^[^\]\s]+\]", "a footnote has no text", "add a line such as [^1]: the text"),
        (r":::", "a block is unknown or not closed",
         "blocks are ::: note, tip, warning, question and answer, each closed with ::: on a line of its own"),
        (r"\{\s*[.#][A-Za-z][\w-]*\s*\}|\{\s*(?:width|height|dir)\s*=[^}]*\}", "attributes belong to nothing",
         "write them right after the link or image, or alone on the line before a block"),
        (r"==\w[^=\n]*==", "==marks== are not supported", "write **bold**"),
        (r"^\s*\[[ xX]\]\s", "task lists are not supported", "write a list without boxes"),
        (r"(?<![\w:]):[a-z][a-z0-9_+-]+:(?![\w:])", "emoji names are not supported", "type the emoji itself"),
        (r"\w~[\w+-]{1,8}~|\w\^[\w+-]{1,8}\^", "sub- and superscripts are not supported",
         "use the characters themselves, as in H₂O and x²"),
        (r"(?i)\[!(?:note|tip|important|warning|caution)\]", "GitHub's alerts are not supported",
         "write ::: note, ::: tip or ::: warning, and ::: on a line of its own at the end"),
        (r"<!--", "a comment is not closed", "end it with -->"),
    )
)  # fmt: skip
_TAG: Final = re.compile(r"</?([A-Za-z][A-Za-z0-9]*)(?:\s[^<>]*)?/?>")
_MISTYPED: Final = re.compile(
    r"(?i)\b(?!https?://\w)(?:h?t{1,3}ps?|hhttps?):?/{1,3}\w\S*|\bhttps?://https?\b\S*"
)
_SCHEMES: Final = frozenset({"http", "https", "mailto", "tel", "sms", "cid"})
_REFUSED_SCHEMES: Final = frozenset({"javascript", "vbscript", "data", "file"})
_HIDDEN: Final = re.compile(r"\{#(?:(?!#\}).)*?\n[ \t]*\n.*?#\}", re.DOTALL)
_DEFINITION: Final = re.compile(r"^[^\W\d_].*\n(:[ \t]+\S.*)$", re.MULTILINE)
# The body that `mailer new` writes.
_SKELETON: Final = re.compile(r"Hello \{\{ subscriber\.name \| default\(\"there\"\) \}\},?")


def leftover_markup(mail: Mail) -> Iterator[Finding]:
    """Find Markdown that was not understood, so that readers see its markup."""
    seen: set[str] = set()
    for text in mail.prose_texts:
        for pattern, problem, remedy in _MARKUP:
            if problem not in seen and (found := pattern.search(text)):
                seen.add(problem)
                shown = found[0].strip()
                yield mail.finding("leftover-markup", f"{problem}: '{shown}'", at=shown, remedy=remedy)


def definition_lists(mail: Mail) -> Iterator[Finding]:
    """Find definition lists of other dialects, which become one paragraph."""
    if found := _DEFINITION.search(mail.prose):
        shown = found[1].strip()
        yield mail.finding(
            "leftover-markup",
            f"definition lists are not supported: '{shown[:40]}'",
            at=shown,
            remedy="write a list: - **word**: what it means",
        )


def shown_tags(mail: Mail) -> Iterator[Finding]:
    """Find HTML that readers see as text."""
    seen: set[str] = set()
    for text in mail.prose_texts:
        for found in _TAG.finditer(text):
            if is_element(found[1]) and found[1].lower() not in seen:
                seen.add(found[1].lower())
                yield mail.finding("shown-tags", f"readers see {found[0][:60]}", at=found[0])


def removed_html(mail: Mail) -> Iterator[Finding]:
    """Find elements that cleaning took out of the author's HTML."""
    shown = " ".join(mail.prose_texts)
    seen: set[str] = set()
    for found in _TAG.finditer(mail.prose):
        name = found[1].lower()
        if name in REMOVED and name not in seen and f"<{found[1]}" not in shown:
            seen.add(name)
            yield mail.finding("removed-html", f"<{name}> was taken out", at=f"<{found[1]}")


def mistyped_link(mail: Mail) -> Iterator[Finding]:
    """Find addresses that lead nowhere because of how they begin."""
    for link in mail.links:
        scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", link.href)
        unknown = scheme is not None and scheme[1].lower() not in _SCHEMES | _REFUSED_SCHEMES
        if unknown or _MISTYPED.match(link.href):
            yield mail.finding("mistyped-link", f"'{link.href[:80]}' leads nowhere", at=link.href)
    for text in mail.prose_texts:
        for found in _MISTYPED.finditer(text):
            yield mail.finding("mistyped-link", f"'{found[0][:80]}' is not an address", at=found[0])


def hidden_text(mail: Mail) -> Iterator[Finding]:
    """Find Jinja comments that swallow whole paragraphs."""
    for found in _HIDDEN.finditer(mail.prose):
        lines = counted(found[0].count("\n") + 1, "line")
        yield mail.finding("hidden-text", f"a comment hides {lines}", at=found[0].split("\n")[0])


def skeleton(mail: Mail) -> Iterator[Finding]:
    """Find issues that contain only the skeleton of `mailer new`."""
    if _SKELETON.fullmatch(mail.issue.body.strip()):
        yield mail.finding("skeleton", "the issue has no text yet", at="Hello {{")


RULES: Final = (
    leftover_markup,
    definition_lists,
    shown_tags,
    removed_html,
    mistyped_link,
    hidden_text,
    skeleton,
)
