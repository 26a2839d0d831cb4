"""An issue as a page on the web, without anything that differs between readers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from mailer.rendering.edition import Edition
from mailer.rendering.message.composer import ISSUE_URLS
from mailer.rendering.templating.filters import direction_of
from mailer.rendering.templating.sandbox import URL_MARK, Sandbox

# Programs that read Open Graph show about this much.
_MAX_DESCRIPTION_CHARACTERS: Final = 200


@dataclass(frozen=True, slots=True)
class Article:
    """An issue for the web. `body` is HTML; the page escapes all other fields."""

    address: str
    body: str
    description: str
    image: str
    """The address of the first image, or empty."""
    language: str
    direction: str
    """`ltr` or `rtl`."""


def article(edition: Edition, *, public_url: str, path: str = "", language: str = "en") -> Article:
    """Return an issue as a web page shows it.

    `path` is the page's own, and its images are below it; empty means the archive's. `language` is the
    newsletter's, for an issue without its own.

    There is no subscriber: all fields are empty, so defaults apply. Personal links lead to the sign-up page,
    and other links lead to their destinations without counting clicks.
    Raises `SourceError` for a template that is not allowed.
    """
    language = edition.language or language
    base = public_url.rstrip("/")
    archived = f"/archive/{quote(edition.slug, safe='')}"
    address = base + (path or archived)
    urls = dict.fromkeys(ISSUE_URLS, f"{base}/subscribe") | {"view": address}
    description = _filled(edition, edition.preheader, urls, language) or edition.subtitle
    body = _filled(edition, edition.page, urls, language, html=True)
    if path:
        for image in edition.images:
            body = body.replace(f"{archived}/{image.name}", f"{path}/{image.name}")
    return Article(
        address=address,
        body=body,
        description=" ".join(description.split())[:_MAX_DESCRIPTION_CHARACTERS],
        image=f"{address}/{edition.images[0].name}" if edition.images else "",
        language=language,
        direction=direction_of(language),
    )


def _filled(
    edition: Edition, template: str, urls: dict[str, str], language: str, *, html: bool = False
) -> str:
    sandbox = Sandbox(edition.slug, language=language)
    root, _ = sandbox.compile(template, "page", url_names=ISSUE_URLS, autoescape=html)
    values: dict[str, object] = {
        variable: urls[name] if owner == "urls" else () if name == "tags" else ""
        for (owner, name), variable in sandbox.fields.items()
    }
    return URL_MARK.sub(lambda found: urls[found[1]], "".join(root(values)))
