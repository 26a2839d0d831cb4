"""The text of consent forms, as the ledger stores it."""

from __future__ import annotations

from typing import Any, Final

import lxml.html

from mailer.web.theme import PageText

_TEMPLATES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "subscribe": ("subscribe.html", {"address": "", "name": "", "problem": ""}),
    "box": ("box.html", {}),
    "embedded": ("embedded.html", {"url": ""}),
    "confirm": ("confirm.html", {"token": ""}),
    "tracking": ("tracking.html", {"token": "", "allowed": False}),
    "return": ("return.html", {"token": ""}),
}
_SAID: Final = ("h1", "h2", "h3", "p", "label", "button")


def wording(texts: PageText, form: str) -> str:
    """Return the text of a form, one line for each heading, paragraph, label and button.

    `form` is one of `subscribe`, `box`, `embedded`, `confirm`, `tracking` and `return`. Invisible
    fields are left out.
    """
    template, values = _TEMPLATES[form]
    page = lxml.html.fromstring(texts.rendered(template, **values))
    main = page.find(".//main")
    lines = [
        " ".join(str(element.xpath("string()")).split())
        for element in (page if main is None else main).iter(*_SAID)
        if not any("hidden" in one.attrib or "aria-hidden" in one.attrib for one in element.iterancestors())
    ]
    return "\n".join(filter(None, lines))
