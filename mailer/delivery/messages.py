"""Messages to single subscribers that another program sends, such as a receipt."""

from __future__ import annotations

import json

from mailer.config import Settings
from mailer.delivery import editions


def check(settings: Settings, source: str) -> None:
    """Raise `SourceError` if a message cannot be rendered."""
    # Imported on use: rendering takes a while to load.
    from mailer.rendering.build import build_message

    edition = build_message(
        source,
        settings.newsletter,
        settings.brand,
        settings.path(settings.paths.templates),
        public_url=settings.web.public_url,
    )
    editions.composer(settings, edition, 0, editions.POWERLESS, letter=True)


def source_of(subject: str, text: str) -> str:
    """Return a message as it is stored: written as an issue is, with its subject in the front matter."""
    title = json.dumps(" ".join(subject.split()), ensure_ascii=False)
    return f"---\ntitle: {title}\n---\n\n{text}\n"
