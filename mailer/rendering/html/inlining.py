"""Move style rules onto the elements they match, with premailer."""

from __future__ import annotations

import logging


def inlined(html: str, css: str) -> str:
    """Return `html` with the rules of `css` in the `style` attributes of the elements they match.

    `<style>` elements marked `data-premailer="ignore"` stay as they are. Nothing is loaded from the
    network or from disk; `css` must have no `@import`, which cssutils would follow to local files.
    """
    # Imported on use: they take longer to load than to run.
    import cssutils
    from premailer import Premailer

    # cssutils logs unknown properties, of which email has many.
    cssutils.log.setLevel(logging.CRITICAL)
    result: str = Premailer(
        html,
        css_text=[css],
        strip_important=False,
        allow_network=False,
        disable_validation=True,
        align_floating_images=False,
        disable_basic_attributes=["width", "height", "bgcolor", "align", "valign"],
    ).transform(pretty_print=False)
    return result
