"""Building the edition of an issue file, and the composer of its messages; no queue, no relay."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mailer.config import Settings
from mailer.delivery.issue_names import is_named
from mailer.errors import SourceError
from mailer.rendering.edition import Edition
from mailer.rendering.message import Composer, Dkim
from mailer.tokens import Signer

# For messages that are only looked at: no server knows this key, so their links do nothing.
ANY_ISSUE = 1
POWERLESS = Signer([b"tokens of this key open nothing"])


def find_source(settings: Settings, name: str) -> Path:
    """Return the file of an issue named by path, by slug or by the number it begins with.

    Raises `SourceError` listing the existing issues.
    """
    path = Path(name)
    if path.suffix == ".md" and path.is_file():
        return path
    folder = settings.path(settings.paths.issues)
    known = sorted(folder.glob("*.md"))
    exact = [found for found in known if name in (found.stem, found.name)]
    numbered = [found for found in known if is_named(found.stem, name)]
    if exact or len(numbered) == 1:
        return (exact or numbered)[0]
    if numbered:
        names = ", ".join(found.stem for found in numbered)
        raise SourceError(f"several issues begin with {name}: {names}", remedy="name one of them")
    there = ", ".join(found.stem for found in known[-5:]) or "none yet"
    raise SourceError(f"there is no issue '{name}'", remedy=f"name a file, or one of {folder}: {there}")


def build(settings: Settings, path: Path, *, links: Iterable[str] = (), text: str | None = None) -> Edition:
    """Render an issue once, with the newsletter's settings; raise `SourceError` if anything is wrong.

    `links` are the tracked links of an edition that was frozen before; they keep their numbers. `text` is
    used instead of the content of the file.
    """
    # Imported on use: Markdown, MJML and premailer take longer to load than most commands run.
    from mailer.rendering.build import build_edition
    from mailer.rendering.source import parse_issue, read_issue

    edition = build_edition(
        read_issue(path) if text is None else parse_issue(text, path),
        settings.newsletter,
        settings.brand,
        settings.path(settings.paths.templates),
        public_url=settings.web.public_url,
        track_clicks=settings.tracking.clicks,
        track_opens=settings.tracking.opens,
        publish_images=settings.rendering.images == "publish",
        raw_html=settings.rendering.raw_html,
        links=links,
    )
    try:
        # Compile the subscribers' part here too, so that its errors stop an issue in time.
        composer(settings, edition, ANY_ISSUE, POWERLESS)
    except SourceError as error:
        raise SourceError(f"{path}: {error.message}", remedy=error.remedy) from error
    return edition


def composer(
    settings: Settings,
    edition: Edition,
    issue_id: int,
    signer: Signer,
    *,
    public: bool = True,
    letter: bool = False,
) -> Composer:
    """Return the composer of an issue or a letter; it signs messages if there are keys.

    `public` is whether the issue gets a page in the archive.
    """
    return Composer(
        edition,
        issue_id=issue_id,
        newsletter=settings.newsletter,
        public_url=settings.web.public_url,
        bounce_domain=settings.bounce_domain,
        unsubscribe_address=settings.unsubscribe_address,
        signer=signer,
        dkim=_dkim(settings) if settings.dkim else None,
        public=public,
        letter=letter,
    )


def _dkim(settings: Settings) -> Dkim:
    """Return the functions that sign with all the keys."""
    # Imported only if there are keys: cryptography is slow to import.
    from mailer.smtp import dkim

    keys = [
        dkim.SigningKey(key.domain, key.selector, dkim.load_key(settings.path(key.key_file)))
        for key in settings.dkim
    ]
    return Dkim(dkim.relaxed_lines, dkim.DkimSigner(keys).sign_digest)
