"""Every check: its id, how much it weighs, what it asks, and what to do when it speaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mailer.rendering.lint.findings import Level

_ERROR, _WARNING, _INFO = Level.ERROR, Level.WARNING, Level.INFO


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that is looked at; `docs/lint/ID.md` tells about it."""

    id: str
    level: Level
    """The usual weight; a check may say less of a milder case."""
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
    Check("charset", _ERROR, "the document does not say that it is UTF-8", "restore base.mjml.j2"),
    Check("mso-comments", _ERROR, "Outlook's conditional comments do not match",
          "close each <!--[if mso]> by one <![endif]-->"),
    Check("html-size", _ERROR, "the HTML is large enough to be clipped",
          "shorten it, or move a part to the archive"),
    Check("html-lang", _WARNING, "the document does not say its language",
          "keep lang= on <mjml> in base.mjml.j2"),
    Check("viewport", _WARNING, "phones are not told the width", "restore the head of base.mjml.j2"),
    Check("html-title", _WARNING, "the document has no title", "keep <mj-title> in base.mjml.j2"),
    # What readers would see as it was typed
    Check("leftover-markup", _WARNING, "readers see signs of Markdown",
          "correct it, or put it between backquotes to show it"),
    Check("shown-tags", _WARNING, "readers see HTML tags as text",
          "set raw_html = true under [rendering] in config.toml, or put the tag between backquotes"),
    Check("removed-html", _WARNING, "HTML that email clients do not show was taken out",
          "link to a page that has it"),
    Check("mistyped-link", _ERROR, "an address is mistyped", "begin it with https://"),
    Check("hidden-text", _WARNING, "a template comment hides whole paragraphs",
          "end the comment with #} where it should end, or put {# between backquotes"),
    Check("skeleton", _ERROR, "the issue is still the one that `mailer new` made", "write it"),
    Check("too-wide", _ERROR, "something is wider than a phone",
          "give it a width in percent, or none"),
    # Links
    Check("empty-link", _ERROR, "a link has no address or no words", "give it both, or make it plain text"),
    Check("relative-link", _ERROR, "a link has no host", "write the whole address, from https:// on"),
    Check("script-link", _ERROR, "a link is a script or data", "link to a page"),
    Check("insecure-link", _WARNING, "a link is not encrypted", "write https:// if the server has it"),
    Check("deceptive-link", _ERROR, "a link's text shows another address than it leads to",
          "show the address it leads to, or words"),
    Check("shortened-link", _WARNING, "a link hides where it leads",
          "write the real address: filters distrust shorteners"),
    Check("idn-link", _ERROR, "a link's host is not in ASCII", "write the host in its xn-- form"),
    Check("vague-link", _WARNING, "a link's words say nothing without what is around them",
          "say what is behind the link"),
    Check("long-link", _WARNING, "a link's address is very long", "leave out what the page does not need"),
    Check("broken-fragment", _WARNING, "a link within the mail has no target",
          "link to the page, or remove the link"),
    # What law and mailbox providers ask
    Check("unsubscribe-link", _ERROR, "readers cannot see how to leave",
          "write {{ urls.unsubscribe }} in the footers (footer.mjml.j2, footer.txt.j2)"),
    Check("postal-address", _ERROR, "the postal address is missing",
          "set [newsletter] postal_address in config.toml, and show it in both footers"),
    Check("one-click-header", _ERROR, "mail programs cannot offer to leave (RFC 8058)",
          "set [web] public_url in config.toml to your https:// address"),
    Check("view-online", _WARNING, "there is no link to the mail's web page",
          "write {{ urls.view }} in the footer"),
    Check("unsigned-headers", _ERROR, "the way to leave is not signed (RFC 8058 asks for DKIM)",
          "make a key: mailer dkim keygen"),
    # Images
    Check("image-alt", _ERROR, "an image has no words for those who do not see it",
          "describe it: `![what it shows](file.jpg)`"),
    Check("image-width", _WARNING, "an image has no width", "add {width=536}, or its own width"),
    Check("image-source", _ERROR, "an image cannot be reached from a mailbox",
          "put it beside the issue, or write its https:// address"),
    Check("image-format", _WARNING, "an image's format is not shown everywhere", "save it as PNG or JPEG"),
    Check("data-image", _WARNING, "an image is written into the HTML", "put it into a file"),
    Check("image-only", _WARNING, "there are images and hardly any text",
          "say in words what the images show"),
    # Style and accessibility
    Check("active-content", _ERROR, "the mail holds what mail programs remove or block",
          "link to a page that has it"),
    Check("external-style", _WARNING, "the mail loads a style sheet", "write the rules into inline.css.j2"),
    Check("client-support", _WARNING, "not every mail program understands this",
          "do without it, or see to it that the mail is readable without"),
    Check("contrast", _WARNING, "text is hard to read on its background", "make the colours differ more"),
    Check("table-role", _WARNING, "a layout table is read out as a table", 'add role="presentation"'),
    Check("small-text", _WARNING, "text is small", "make it 14 px or larger"),
    Check("heading-order", _INFO, "a heading skips a level", "use the level that follows"),
    # The envelope
    Check("subject", _ERROR, "the subject is empty, long or odd", "change 'subject' in the front matter"),
    Check("preheader", _WARNING, "there is no preview text of its own",
          "write preheader: … in the front matter; inboxes show it after the subject"),
    Check("text-part", _ERROR, "the text part says much less than the HTML", "restore issue.txt.j2"),
    Check("lint-ignore", _WARNING, "a waiver in the front matter does not hold",
          'write lint: {ignore: {check-id: "the reason"}}'),
    # What is asked of others, on request
    Check("dead-link", _ERROR, "a link does not answer", "correct or remove it"),
    Check("undefined-field", _ERROR, "subscribers lack a field that the issue writes out",
          'write {{ subscriber.field | default("…") }}'),
    Check("spam-score", _WARNING, "SpamAssassin dislikes the mail", "look at the rules that hit"),
)  # fmt: skip

CHECKS: Final = {check.id: check for check in _ALL}
