"""The checks: id, level, title and remedy of each."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from mailer.rendering.lint.findings import Level

_ERROR, _WARNING, _INFO = Level.ERROR, Level.WARNING, Level.INFO


class Check(Struct, frozen=True):
    """One check. `docs/lint/ID.md` explains it."""

    id: str
    level: Level
    """The usual level; milder cases of a check may have a lower one."""
    title: str
    remedy: str


_ALL: Final = (
    # The document
    Check("unresolved-template", _ERROR, "template syntax reaches the reader",
          "write {{ subscriber.name }}, or put the braces between backquotes"),
    Check("escape-residue", _ERROR, "escapes of the MJML converter are left",
          r"take \u{…} and \" out of the template's attributes"),
    Check("leftover-mjml", _ERROR, "an MJML element was not converted",
          "use only the elements that the converter knows"),
    Check("doctype", _ERROR, "the HTML doctype is missing", "restore base.mjml.j2"),
    Check("charset", _ERROR, "the document does not state that it is UTF-8", "restore base.mjml.j2"),
    Check("mso-comments", _ERROR, "Outlook's conditional comments are not balanced",
          "close each <!--[if mso]> with one <![endif]-->"),
    Check("html-size", _ERROR, "the HTML is large enough to be clipped",
          "shorten it, or move part of it to the archive"),
    Check("html-lang", _WARNING, "the document does not state its language",
          "keep lang= on <mjml> in base.mjml.j2"),
    Check("viewport", _WARNING, "phones do not know the width of the page",
          "restore the head of base.mjml.j2"),
    Check("html-title", _WARNING, "the document has no title", "keep <mj-title> in base.mjml.j2"),
    # Source text that readers would see
    Check("leftover-markup", _WARNING, "readers see Markdown syntax",
          "correct it, or put it between backquotes to show it"),
    Check("shown-tags", _WARNING, "readers see HTML tags as text",
          "set raw_html = true under [rendering] in config.toml, or put the tag between backquotes"),
    Check("removed-html", _WARNING, "HTML that email clients do not show was taken out",
          "link to a page that has it"),
    Check("mistyped-link", _ERROR, "an address is mistyped", "begin it with https://"),
    Check("hidden-text", _WARNING, "a template comment hides whole paragraphs",
          "end the comment with #} where it should end, or put {# between backquotes"),
    Check("merge-conflict", _ERROR, "a merge was not finished",
          "keep one version, and delete the lines with <<<<<<<, ======= and >>>>>>>"),
    Check("unknown-attribute", _WARNING, "an attribute in braces has no effect",
          "use {.button}, {.quiet}, {width=…} or {dir=rtl}"),
    Check("odd-date", _WARNING, "the date of the issue is in another year",
          "change 'date' in the front matter"),
    Check("opens", _WARNING, "opens decide who gets the issue",
          "decide by clicks, or accept that opens say little"),
    Check("curly-quotes", _WARNING, "a value in the front matter is between curly quotes",
          'write straight quotes: "…"'),
    Check("repeated-heading", _INFO, "two headings are the same",
          "give each its own words"),
    Check("fields-in-code", _INFO, "a field is between backquotes",
          "take it out of the backquotes to fill it in"),
    Check("skeleton", _ERROR, "the issue is still the one that `mailer new` made", "write it"),
    Check("too-wide", _ERROR, "something is wider than the screen",
          "give it a width in percent, or none"),
    # Links
    Check("empty-link", _ERROR, "a link has no address or no words", "give it both, or make it plain text"),
    Check("relative-link", _ERROR, "a link has no host", "write the whole address, from https:// on"),
    Check("script-link", _ERROR, "a link is a script or data", "link to a page"),
    Check("insecure-link", _WARNING, "a link is not encrypted", "write https:// if the server has it"),
    Check("deceptive-link", _ERROR, "the text of a link shows a different address",
          "show the address it leads to, or words"),
    Check("shortened-link", _WARNING, "a link hides where it leads",
          "write the real address: filters distrust shorteners"),
    Check("idn-link", _ERROR, "a link's host is not in ASCII", "write the host in its xn-- form"),
    Check("vague-link", _WARNING, "the text of a link says nothing out of context",
          "describe the page that it links to"),
    Check("long-link", _WARNING, "the address of a link is very long",
          "leave out the parts that the page does not need"),
    Check("broken-fragment", _WARNING, "a link within the message has no target",
          "link to the page, or remove the link"),
    # Required by law or by mailbox providers
    Check("unsubscribe-link", _ERROR, "readers cannot see how to unsubscribe",
          "write {{ urls.unsubscribe }} in the footers (footer.mjml.j2, footer.txt.j2)"),
    Check("postal-address", _ERROR, "the postal address is missing",
          "set [newsletter] postal_address in config.toml, and show it in both footers"),
    Check("one-click-header", _ERROR, "email clients cannot offer to unsubscribe (RFC 8058)",
          "set [web] public_url in config.toml to your https:// address"),
    Check("view-online", _WARNING, "there is no link to the web version",
          "write {{ urls.view }} in the footer"),
    Check("unsigned-headers", _ERROR, "the unsubscribe headers are not signed (RFC 8058 requires DKIM)",
          "create a key with mailer dkim keygen"),
    # Images
    Check("image-alt", _ERROR, "an image has no alternative text",
          "describe it: `![what it shows](file.jpg)`"),
    Check("image-width", _WARNING, "an image has no width", "add {width=536}, or its own width"),
    Check("image-source", _ERROR, "an image cannot be loaded by readers",
          "put it beside the issue, or write its https:// address"),
    Check("image-format", _WARNING, "some clients do not show the format of an image",
          "save it as PNG or JPEG"),
    Check("data-image", _WARNING, "an image is embedded in the HTML", "save it as a file"),
    Check("image-only", _WARNING, "there are images and hardly any text",
          "repeat in words what the images say"),
    # Style and accessibility
    Check("active-content", _ERROR, "the message contains elements that email clients remove",
          "link to a page that contains it"),
    Check("external-style", _WARNING, "the message loads a style sheet",
          "write the rules into inline.css.j2"),
    Check("client-support", _WARNING, "some email clients do not support this",
          "avoid it, or make sure that the message is readable without it"),
    Check("contrast", _WARNING, "text is hard to read on its background", "increase the contrast"),
    Check("table-role", _WARNING, "screen readers announce a layout table as data",
          'add role="presentation"'),
    Check("small-text", _WARNING, "text is small", "make it 14 px or larger"),
    Check("heading-order", _INFO, "a heading skips a level", "use the next level"),
    # The envelope
    Check("subject", _ERROR, "the subject is empty, too long, or contains odd characters",
          "change 'subject' in the front matter"),
    Check("preheader", _WARNING, "there is no preview text",
          "write preheader: … in the front matter; inboxes show it after the subject"),
    Check("text-part", _ERROR, "the text part has far fewer words than the HTML", "restore issue.txt.j2"),
    Check("lint-ignore", _WARNING, "a waiver in the front matter is not valid",
          'write lint: {ignore: {check-id: "the reason"}}'),
    # Checks that need the network or the database
    Check("dead-link", _ERROR, "a link does not answer", "correct or remove it"),
    Check("undefined-field", _ERROR, "some subscribers lack a field that the issue needs",
          'write {{ subscriber.field | default("…") }}'),
    Check("spam-score", _WARNING, "SpamAssassin considers the message spam", "check the rules that matched"),
)  # fmt: skip

CHECKS: Final = {check.id: check for check in _ALL}
