"""Each check speaks of one document and is silent about another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from mailer.rendering.lint import CHECKS, LintReport
from tests.rendering.lint.scene import HTML, NEWSLETTER, PROSE, SOURCE, TEXT, edition, found, linted

# These ask others; their tests stand where they are asked.
ASKED_OF_OTHERS = {"dead-link", "undefined-field", "spam-score"}

Case = Callable[[], LintReport]


def body(extra: str) -> Case:
    """Return a report on the good document with `extra` in its body."""
    return lambda: linted(HTML.replace("<!-- more -->", extra))


def without(piece: str, instead: str = "") -> Case:
    """Return a report on the good document with a piece taken out."""
    assert piece in HTML
    return lambda: linted(HTML.replace(piece, instead))


def written(front: str = "", text: str = "") -> Case:
    """Return a report on an issue whose front matter or body has more in it."""
    source = SOURCE.replace("---\n\n", f"{front}\n---\n\n", 1) + text
    return lambda: linted(source=source)


def link(href: str, words: str = "a page about beans") -> Case:
    return body(f'<p><a href="{href}">{words}</a></p>')


def image(attributes: str) -> Case:
    return body(f"<img {attributes}>")


def greeting(more: str) -> Case:
    text = f'Hello {{{{ subscriber.name | default("there") }}}},{more}'
    return lambda: linted(source=f"---\ntitle: A\n---\n\n{text}\n")


CASES: dict[str, tuple[str, Case, Case]] = {
    "unresolved-template": (
        "error", body("<p>Dear {{ subscriber.name }}</p>"), body("<p>Write <code>{{ x }}</code></p>")),
    "escape-residue": (
        "error", body(r'<b title="a \u{fe0f}">x</b>'), body(r'<p>C:\users</p><code>\u{fe0f} \"</code>')),
    "leftover-mjml": ("error", body("<mj-text>x</mj-text>"), body("<p>mj-text</p>")),
    "doctype": ("error", without("<!DOCTYPE html>"), without("<!DOCTYPE html>", "<!doctype html>")),
    "charset": (
        "error",
        without("charset=UTF-8"),
        without('http-equiv="Content-Type" content="text/html; charset=UTF-8"', 'charset="utf-8"')),
    "mso-comments": (
        "error",
        body("<!--[if mso]><p>"),
        body("<!--[if !mso]><!--><p>x</p><!--<![endif]--><!--[if mso]><p>y</p><![endif]-->")),
    "html-size": ("error", body("<p>" + "x " * 51_000 + "</p>"), body("<p>" + "x " * 30_000 + "</p>")),
    "html-lang": ("warning", without(' lang="en"', ' lang="und"'), without(' lang="en"', ' lang="ro"')),
    "viewport": ("warning", without('name="viewport"'), linted),
    "html-title": ("warning", without("A bean</title>", "</title>"), linted),
    "empty-link": ("error", link("#"), link("https://example.com/")),
    "relative-link": ("error", link("/beans"), link("mailto:ana@example.org")),
    "script-link": ("error", link("JavaScript:alert(1)"), link("https://example.com/javascript:x")),
    "leftover-markup": ("warning", body("<p>**bold **text</p>"), body("<p><code>**x**</code> 2 * 3 * 4</p>")),
    "shown-tags": (
        "warning",
        body("<p>Press &lt;kbd&gt;Ctrl&lt;/kbd&gt;</p>"),
        body("<p>Vec&lt;T&gt; <code>&lt;b&gt;</code></p>")),
    "removed-html": (
        "warning",
        written(text="\n\n<iframe src='x'></iframe>\n"),
        written(text="\n\n`<iframe>` <!-- <form> -->\n")),
    "mistyped-link": ("error", link("htp://example.com/"), link("https://example.com/?u=http://x")),
    "hidden-text": (
        "warning",
        written(text="\nA {# b\n\nc #} d\n"),
        written(text="\nA {# b #} c\n\n`{#`\n\n`#}`\n")),
    "merge-conflict": ("error", written(text="\n\n<<<<<<< HEAD\n"), written(text="\n\n`<<<<<<< HEAD`\n")),
    "unknown-attribute": (
        "warning",
        written(text="\n[Send](https://example.com/a){.buton}\n"),
        written(text="\n[Send](https://example.com/a){.button .quiet}\n")),
    "odd-date": (
        "warning",
        written("date: 2019-03-01"),
        written("date: 2026-01-02")),
    "curly-quotes": (
        "warning",
        lambda: linted(source=SOURCE.replace("title: A bean in a jar", "title: “A bean”")),
        lambda: linted(source=SOURCE.replace("title: A bean in a jar", "title: A “bean” in a jar"))),
    "repeated-heading": ("info", body("<h3>A</h3><h3>A</h3>"), body("<h3>A</h3><h3>B</h3>")),
    "fields-in-code": (
        "info",
        written(text="\nDear `{{ subscriber.name }}`\n"),
        written(text='\nDear {{ subscriber.name | default("you") }} `code`\n')),
    "skeleton": ("error", greeting(""), greeting(" news!")),
    "too-wide": (
        "error",
        body('<table role="presentation" width="600"><tr><td>x</td></tr></table>'),
        body('<table role="presentation" width="100%"><tr><td>x</td></tr></table>')),
    "insecure-link": ("warning", link("http://example.com/"), link("https://example.com/?u=http://x")),
    "deceptive-link": (
        "error",
        link("https://evil.example/", "www.bank.example"),
        link("https://login.bank.example/", "bank.example/page")),
    "shortened-link": ("warning", link("https://bit.ly/3abc"), link("https://orbit.ly/3abc")),
    "idn-link": ("error", link("https://bücher.example/"), link("https://xn--bcher-kva.example/ü")),
    "vague-link": (
        "warning",
        link("https://example.com/", "Click here!"),
        link("https://example.com/", "Click here for beans")),
    "long-link": (
        "warning",
        link(f"https://example.com/?{'x' * 2_000}"),
        link(f"https://example.com/?{'x' * 1_900}")),
    "broken-fragment": ("warning", link("#note"), body('<p id="note"><a href="#note">the note</a></p>')),
    "unsubscribe-link": (
        "error",
        without("https://news.example.org/u/T", "https://example.com/u/T"),
        without("https://news.example.org/u/T", "https://news.example.org/u/Other")),
    "postal-address": (
        "error",
        without("<p>1 Example Street</p>"),
        without("<p>1 Example Street</p>", "<p>1 Example\n Street</p>")),
    "one-click-header": (
        "error",
        lambda: linted(List_Unsubscribe="<http://news.example.org/u/T>"),
        lambda: linted(List_Unsubscribe="<mailto:x@example.org>, <https://news.example.org/u/T>")),
    "view-online": ("warning", without("/archive/001", "/p/T"), without("/archive/001", "/archive/002")),
    "unsigned-headers": (
        "error",
        lambda: linted(DKIM_Signature="v=1; h=from:subject:list-unsubscribe; b=A"),
        lambda: linted(DKIM_Signature="v=1; bh=x; h=From : List-Unsubscribe : List-Unsubscribe-Post; b=A")),
    "image-alt": (
        "error",
        image('src="https://example.com/a.png" width="9"'),
        image('src="https://example.com/a.png" width="1" height="1" alt=""')),
    "image-width": (
        "warning",
        image('src="https://example.com/a.png" alt="A"'),
        image('src="https://example.com/a.png" alt="A" width="100%"')),
    "image-source": (
        "error",
        image('src="images/a.png" alt="A" width="9"'),
        image('src="https://example.com/a.png" alt="A" width="9"')),
    "image-format": (
        "warning",
        image('src="https://example.com/a.WebP?x" alt="A" width="9"'),
        image('src="https://example.com/a.png?svg" alt="A" width="9"')),
    "data-image": (
        "warning",
        image('src="data:image/png;base64,AAAA" alt="A" width="9"'),
        image('src="https://example.com/data:" alt="A" width="9"')),
    "image-only": (
        "warning", without(f"<p>{PROSE}</p>", "<p>Look</p>"), without("<h2>One</h2>")),
    "active-content": ("error", body("<form></form>"), body("<p>form</p>")),
    "external-style": (
        "warning",
        without("p { margin: 0 }", "@import url(https://example.com/a.css);"),
        body('<link rel="icon" href="https://example.com/a.ico">')),
    "client-support": (
        "warning",
        body('<div style="display: flex">x</div>'),
        body('<div style="display: block; border-radius: 3px">x</div>')),
    "contrast": (
        "warning",
        body('<p style="color:#999999">pale</p>'),
        body('<div style="background:#000"><p style="color:#999">pale</p></div>')),
    "table-role": (
        "warning",
        body("<table><tr><td>x</td></tr></table>"),
        body("<table><tr><th>x</th></tr></table>")),
    "small-text": (
        "warning",
        body('<p style="font-size:11px">small</p>'),
        body('<p style="font-size:11px"><span style="font-size:11pt">not small</span></p>')),
    "heading-order": ("info", body("<h4>Four</h4>"), body("<h3>Three</h3><h4>Four</h4><h2>Two</h2>")),
    "opens": (
        "warning",
        written('resend: {of: "001-a", without: opens}'),
        written('resend: "001-a"')),
    "subject": ("error", lambda: linted(Subject=""), lambda: linted(Subject="x" * 70)),
    "preheader": (
        "warning",
        lambda: linted(source=SOURCE.replace("Five questions about growing things", "a bean in a Jar")),
        linted),
    "text-part": ("error", lambda: linted(text="Unsubscribe: https://news.example.org/u/T"), linted),
    "lint-ignore": (
        "warning",
        written("lint: {ignore: {no-such-check: because}}"),
        written('lint: {ignore: {small-text: "the mark of a footnote"}}')),
}  # fmt: skip


def test_every_check_has_a_case() -> None:
    assert set(CASES) == set(CHECKS) - ASKED_OF_OTHERS


def test_the_good_document_has_no_finding() -> None:
    assert linted().findings == ()


@pytest.mark.parametrize("check", CASES)
def test_check_speaks(check: str) -> None:
    level, bad, _ = CASES[check]
    assert found(bad()).get(check) == level


@pytest.mark.parametrize("check", CASES)
def test_check_is_silent(check: str) -> None:
    _, _, good = CASES[check]
    assert check not in found(good())


@pytest.mark.parametrize("check", CASES)
def test_level_is_the_one_of_the_table(check: str) -> None:
    assert CHECKS[check].level.value == CASES[check][0]


MILDER: dict[str, tuple[str, str, Case]] = {
    "nearly clipped": ("html-size", "warning", body("<p>" + "x " * 45_000 + "</p>")),
    "long subject": ("subject", "warning", lambda: linted(Subject="x" * 71)),
    "no signature": ("unsigned-headers", "warning", lambda: linted(DKIM_Signature="")),
    "nothing leaves, no address": (
        "postal-address",
        "warning",
        lambda: linted(newsletter=msgspec.structs.replace(NEWSLETTER, postal_address=""), leaving=False),
    ),
}


@pytest.mark.parametrize("case", MILDER)
def test_milder_case_weighs_less(case: str) -> None:
    check, level, bad = MILDER[case]
    assert found(bad())[check] == level


MORE: dict[str, tuple[str, Case]] = {
    "slot": ("unresolved-template", body("<p>xslot0123456789abe</p>")),
    "another service's tag": ("unresolved-template", body("<p>Dear *|FNAME|*</p>")),
    "template in the subject": ("unresolved-template", lambda: linted(Subject="Dear {{ name }}")),
    "escape that breaks out": ("escape-residue", body(r'<img src="cid:bean@images.invalid" alt="\" x="">')),
    "comment that closes nothing": ("mso-comments", body("<![endif]-->")),
    "no address at all": ("empty-link", link("")),
    "nothing to click on": ("empty-link", link("https://example.com/", "")),
    "data link": ("script-link", link("data:text/html,x")),
    "host in percent signs": ("idn-link", link("https://b%C3%BCcher.example/")),
    "no unsubscribe link in the text": ("unsubscribe-link", lambda: linted(text=PROSE)),
    "no List-Unsubscribe-Post": ("one-click-header", lambda: linted(List_Unsubscribe_Post="")),
    "only mailto": ("one-click-header", lambda: linted(List_Unsubscribe="<mailto:x@example.org>")),
    "empty alt": ("image-alt", image('src="https://example.com/a.png" alt=" " width="9"')),
    "file image": ("image-source", image('src="file:///a.png" alt="A" width="9"')),
    "image that is not carried": ("image-source", image('src="cid:other@x" alt="A" width="9"')),
    "drawing": ("image-format", body("<svg></svg>")),
    "external style sheet": ("external-style", body('<link rel="stylesheet" href="https://example.com/a.css">')),
    "video": ("active-content", body('<video src="https://example.com/a.mp4"></video>')),
    "custom property": ("client-support", body('<p style="color: var(--ink)">x</p>')),
    "grid": ("client-support", body('<p style="display: grid">x</p>')),
    "unit": ("client-support", body('<p style="width: 50vw">x</p>')),
    "element": ("client-support", body("<dialog>x</dialog>")),
    "right-to-left override": ("subject", lambda: linted(of=replace(edition(), subject="a \u202e b"))),
    "no preheader": ("preheader", lambda: linted(of=replace(edition(), preheader=""))),
    "no text part": ("text-part", lambda: linted(text="\n")),
    "waiver without a reason": ("lint-ignore", written("lint: {ignore: {small-text: }}")),
    "waivers as a list": ("lint-ignore", written("lint: {ignore: [small-text]}")),
}  # fmt: skip


@pytest.mark.parametrize("case", MORE)
def test_check_speaks_of_its_other_cases(case: str) -> None:
    check, bad = MORE[case]
    assert check in found(bad())


def test_text_part_is_measured_by_its_visible_words() -> None:
    hidden = f'<div style="display: none">{PROSE * 9}</div>'
    assert "text-part" not in found(linted(HTML.replace("<!-- more -->", hidden), TEXT))
