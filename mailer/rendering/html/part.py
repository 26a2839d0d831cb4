"""The HTML part: the frame of an email from the operator's templates, with the body inserted."""

from __future__ import annotations

from collections.abc import Mapping

from mailer.rendering.html.body import Frame
from mailer.rendering.html.document import BODY, document
from mailer.rendering.html.palette import palette
from mailer.rendering.html.renderer import markup


def html_part(frame: Frame, values: Mapping[str, object], body: str) -> str:
    """Return the inlined document for the issue's `values` and its body, which is HTML."""
    start, end = ("right", "left") if frame.direction == "rtl" else ("left", "right")
    look = {
        "newsletter": frame.newsletter,
        "brand": frame.brand,
        "colour": palette(frame.brand),
        "direction": frame.direction,
        "start": start,
        "end": end,
    }
    values = {
        **values,
        **look,
        "body": markup(BODY),
        "public_url": frame.public_url,
        "track_opens": frame.track_opens,
    }
    name = f"{frame.name}.mjml.j2"
    inline_css, head_css = (frame.templates.render(css, look) for css in ("inline.css.j2", "head.css.j2"))
    return document(
        frame.templates.render(name, values),
        body,
        inline_css,
        head_css,
        str(values["preheader"]),
        str(frame.templates.directory / name),
        locate=frame.templates.locate(name, values),
    )
