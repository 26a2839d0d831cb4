"""The plain-text part: the body as text, in the operator's template."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from markdown_it.token import Token

from mailer.rendering.templating.slots import Slots
from mailer.rendering.text.blocks import Links, render_text
from mailer.rendering.text.layout import safe_lines


def text_part(
    fill: Callable[[Mapping[str, object]], str],
    values: Mapping[str, object],
    tokens: Sequence[Token],
    slots: Slots,
    *,
    rtl: bool = False,
) -> str:
    """Return the text for the issue's `values` and the tokens of its body; `fill` fills the template.

    `rtl`: in a language that is written from right to left.
    """
    links = Links(lambda url: slots.in_address(url, ""), slots.step, rtl=rtl)
    body = render_text(tokens, links)
    values = {**values, "body": body, "links": links.listed()}
    return safe_lines(fill(values)).strip("\n") + "\n"
