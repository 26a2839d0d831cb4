"""Building the edition of an issue file, and the composer of its messages; no queue, no relay."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mailer.config import Settings
from mailer.delivery.issue_names import is_named
from mailer.errors import SourceError
from mailer.rendering.edition import Edition
from mailer.tokens import Signer

if TYPE_CHECKING:
    from mailer.rendering.message import Composer, Dkim
    from mailer.rendering.source import Issue
    from mailer.smtp.dkim import SigningKey
    from mailer.smtp.signing import SigningProcess

# For messages that are only displayed: no server knows this key, so their links do nothing.
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
    """Render an issue once, with the newsletter's settings and all arms of its A/B test.

    Raises `SourceError` if anything is wrong.

    `links` are the tracked links of an edition that was frozen before; they keep their numbers. `text` is
    used instead of the content of the file.
    """
    # Imported on use: Markdown, MJML and premailer take longer to load than most commands run.
    from mailer.rendering.source import parse_issue, read_issue

    return build_issue(settings, read_issue(path) if text is None else parse_issue(text, path), links=links)


def build_issue(settings: Settings, issue: Issue, *, links: Iterable[str] = ()) -> Edition:
    """Render an issue that was read already, as `build` does."""
    path = issue.path
    edition = _rendered(settings, issue, links)
    if issue.resend is not None and not getattr(settings.tracking, issue.resend.without):
        what = issue.resend.without
        raise SourceError(
            f"{path}:{issue.line_of('resend')}: {what} are not tracked, so nobody knows who reacted",
            remedy=f"set {what} = true in [tracking]",
        )
    others = [_rendered(settings, arm, edition.links) for arm in other_arms(issue)]
    if others:
        edition = _tested(settings, issue, edition, others)
    return edition


def other_arms(issue: Issue) -> list[Issue]:
    """Return the arms B, C and D of an issue's A/B test; empty without one.

    Raises `SourceError` if the file of an arm cannot be used.
    """
    from mailer.rendering.source import read_issue

    if issue.other_subjects:
        return [replace(issue, subject=one, other_subjects=()) for one in issue.other_subjects]
    arms = [read_issue(issue.path.parent / name) for name in issue.other_files]
    for arm in arms:
        if arm.other_subjects or arm.other_files:
            raise SourceError(
                f"{arm.path}: an arm cannot have arms of its own", remedy=f"list them in {issue.path}"
            )
    return [replace(arm, slug=issue.slug) for arm in arms]


def _tested(settings: Settings, issue: Issue, edition: Edition, others: list[Edition]) -> Edition:
    """Return an edition with its other arms; all get the same links, so that a link has one number."""
    place = f"{issue.path}:{issue.line_of('test') if 'test' in dict(issue.key_lines) else 1}"
    if not (issue.test.hold or getattr(settings.tracking, issue.test.by)):
        raise SourceError(
            f"{place}: the A/B test is decided by {issue.test.by}, and they are not tracked",
            remedy=f"set {issue.test.by} = true in [tracking], or decide yourself with test: {{hold: true}}",
        )
    links = list(edition.links)
    for one in others:
        links += [link for link in one.links if link not in links]
    if any(one.links != tuple(links[: len(one.links)]) for one in others):
        # The first links of each arm are those of arm A; then come its own.
        others = [_rendered(settings, arm, links) for arm in other_arms(issue)]
    arms = tuple(replace(one, links=tuple(links)) for one in others)
    return replace(edition, links=tuple(links), arms=arms, test=issue.test)


def _rendered(settings: Settings, issue: Issue, links: Iterable[str]) -> Edition:
    from mailer.rendering.build import build_edition

    edition = build_edition(
        issue,
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
        raise SourceError(f"{issue.path}: {error.message}", remedy=error.remedy) from error
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
    # Imported on use: Jinja is slow to import, and many commands only look for an issue's file.
    from mailer.rendering.message import Composer

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


def signing(settings: Settings) -> SigningProcess | None:
    """Return what signs the messages of a run in another process; None if there are no keys."""
    if not settings.dkim:
        return None
    from mailer.smtp.signing import SigningProcess

    return SigningProcess(_keys(settings))


def _dkim(settings: Settings) -> Dkim:
    """Return the functions that sign with all the keys."""
    # Imported only if there are keys: cryptography is slow to import.
    from mailer.rendering.message import Dkim
    from mailer.smtp import dkim

    return Dkim(dkim.relaxed_lines, dkim.DkimSigner(_keys(settings)).sign_digest)


def _keys(settings: Settings) -> list[SigningKey]:
    from mailer.smtp import dkim

    return [
        dkim.SigningKey(key.domain, key.selector, dkim.load_key(settings.path(key.key_file)))
        for key in settings.dkim
    ]
