"""The page of an issue in the public archive: the edition as nobody in particular sees it."""

from __future__ import annotations

import base64
import re
from html import escape
from typing import Final
from urllib.parse import quote

from mailer.rendering.edition import Edition
from mailer.rendering.message import ISSUE_URLS
from mailer.rendering.sandbox import URL_MARK, Sandbox

_EMPTY_IMAGE: Final = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
_TRACKED: Final = re.compile("\0click\0/([0-9]+)")


def archive_page(edition: Edition, *, public_url: str, language: str = "en") -> str:
    """Return the HTML of an issue for the web.

    There is no subscriber: each of their fields is empty, so defaults show. Nothing is counted: tracked
    links lead where they say, and the image that counts opens is an empty one. What would be the
    reader's own page is the page to subscribe. Images of the message come as data URIs.
    Raises `SourceError` for a template that is not allowed.
    """
    base = public_url.rstrip("/")
    urls = dict.fromkeys(ISSUE_URLS, f"{base}/subscribe")
    urls |= {"view": f"{base}/archive/{quote(edition.slug, safe='')}", "open": _EMPTY_IMAGE, "click": base}
    sandbox = Sandbox(edition.slug, language=language)
    root, _ = sandbox.compile(edition.html, "html", url_names=ISSUE_URLS, autoescape=True)
    values: dict[str, object] = {
        variable: urls[name] if owner == "urls" else () if name == "tags" else ""
        for (owner, name), variable in sandbox.fields.items()
    }
    page = _TRACKED.sub(lambda found: _destination(edition, int(found[1])), "".join(root(values)))
    page = URL_MARK.sub(lambda found: escape(urls[found[1]]), page)
    for image in edition.images:
        content = base64.b64encode(image.content).decode("ascii")
        page = page.replace(f"cid:{image.content_id}", f"data:{image.media_type};base64,{content}")
    return page


def _destination(edition: Edition, number: int) -> str:
    return escape(edition.links[number]) if number < len(edition.links) else ""
