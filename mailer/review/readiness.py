"""Check everything that config.toml refers to, before an issue is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from mailer.config import Mailbox, Relay, Settings, client_secret, password
from mailer.delivery import editions, requirements
from mailer.errors import MailerError
from mailer.rendering.build import build_edition
from mailer.rendering.source import parse_issue

_ISSUE: Final = '---\ntitle: "Check"\n---\n\nHello.\n'


@dataclass(frozen=True, slots=True)
class SetupProblem:
    """Something that stops an issue, or should be known before one is sent."""

    place: str
    """File and line, or the variable, that sets the value; `default` if nothing does."""
    message: str
    remedy: str | None
    stops: bool = True
    """Whether sending, or reading bounces, fails because of it."""

    def __str__(self) -> str:
        return self.message if self.place == "default" else f"{self.place}: {self.message}"


def problems(settings: Settings) -> list[SetupProblem]:
    """Return every problem with the settings and the files they name; nothing is contacted."""
    return [
        *_send(settings),
        *_relays(settings),
        *_boxes(settings),
        *_console(settings),
        *_keys(settings),
        *_segments(settings),
        *_folders(settings),
        *_templates(settings),
    ]


def _problem(place: str, error: MailerError) -> SetupProblem:
    return SetupProblem(place, error.message, error.remedy)


def _send(settings: Settings) -> Iterator[SetupProblem]:
    for key, error in requirements.refusals(settings):
        yield _problem(settings.origin(key), error)


def _relays(settings: Settings) -> Iterator[SetupProblem]:
    for name, relay in settings.relays.items():
        section = f"relays.{name}"
        yield from _password(settings, section, relay)
        sources = (relay.password, relay.password_file, relay.password_command)
        given = any(source is not None for source in sources)
        if relay.user and not given:
            yield SetupProblem(
                settings.origin(f"{section}.user"),
                f"'{section}' has a user but no password",
                "add password_file or password_command, or set MAILER_RELAYS__"
                f"{name.upper()}__PASSWORD; leave out user if the relay needs no login",
            )
        if given and not relay.user:
            yield SetupProblem(
                settings.origin(f"{section}.host"),
                f"'{section}' has a password but no user, so it would not log in",
                "add user",
            )


def _boxes(settings: Settings) -> Iterator[SetupProblem]:
    for number, box in enumerate(settings.bounces.boxes):
        yield from _password(settings, f"bounces.boxes.{number}", box)
    for folder in settings.bounces.maildirs:
        path = settings.path(folder)
        if not (path / "new").is_dir():
            yield SetupProblem(
                settings.origin("bounces.maildirs"),
                f"{path} is not a Maildir: it has no folder 'new'",
                "check the path; the mail server makes the folder with the first message",
            )


def _console(settings: Settings) -> Iterator[SetupProblem]:
    oidc = settings.console.oidc
    if oidc is not None:
        key = next(key for key in settings.origins if key.startswith("console.oidc.client_secret"))
        place, reading = settings.origin(key), lambda: client_secret(oidc, settings.folder)
        for problem in _secret(place, "console.oidc", "the client secret", reading):
            yield replace(problem, stops=False)


def _password(settings: Settings, section: str, server: Relay | Mailbox) -> Iterator[SetupProblem]:
    place = _origin(settings, section)
    yield from _secret(place, section, "the password", lambda: password(server, settings.folder))


def _secret(place: str, section: str, name: str, reading: Callable[[], str | None]) -> Iterator[SetupProblem]:
    try:
        empty = reading() == ""
    except MailerError as error:
        yield SetupProblem(place, f"'{section}': {error.message}", error.remedy)
        return
    if empty:
        yield SetupProblem(place, f"'{section}': {name} is empty", "enter it")


def _origin(settings: Settings, section: str) -> str:
    """Return where the password, or else any key, of a section is set."""
    keys = (f"{section}.password_file", f"{section}.password_command", f"{section}.password")
    found = (settings.origins[key] for key in (*keys, f"{section}.host") if key in settings.origins)
    return next(found, settings.origin("bounces.boxes"))


def _keys(settings: Settings) -> Iterator[SetupProblem]:
    if not settings.dkim:
        return
    # Imported only if there are keys: cryptography is slow to import.
    from mailer.smtp.dkim import load_key

    author = settings.newsletter.author_domain
    for key in settings.dkim:
        try:
            load_key(settings.path(key.key_file))
        except MailerError as error:
            yield _problem(settings.origin("dkim"), error)
    if not any(_aligned(key.domain, author) for key in settings.dkim):
        yield SetupProblem(
            settings.origin("dkim"),
            f"no DKIM key signs for {author}, the domain in From:, so DMARC cannot pass by DKIM",
            f"make a key for {author}: mailer dkim keygen {author}",
            stops=False,
        )


def _aligned(domain: str, author: str) -> bool:
    """Return whether one of two domains is the other or lies above it (RFC 7489, section 3.1)."""
    return domain == author or domain.endswith(f".{author}") or author.endswith(f".{domain}")


def _segments(settings: Settings) -> Iterator[SetupProblem]:
    if not settings.segments:
        return
    # Imported on use: segments become SQL, and nothing else here needs the database.
    from mailer.audience.segments import parse_segment

    for name, text in settings.segments.items():
        try:
            parse_segment(text, settings.segments)
        except MailerError as error:
            place = settings.origin(f"segments.{name}")
            yield SetupProblem(place, f"'segments.{name}': {error.message}", error.remedy)


def _folders(settings: Settings) -> Iterator[SetupProblem]:
    folder = settings.path(settings.paths.issues)
    if not folder.is_dir():
        yield SetupProblem(
            settings.origin("paths.issues"),
            f"{folder}: no such folder, so there is no issue to send",
            "mailer new TITLE makes it, or set paths.issues",
            stops=False,
        )


def _templates(settings: Settings) -> Iterator[SetupProblem]:
    """Render an issue of one line with the newsletter's own templates."""
    try:
        edition = build_edition(
            parse_issue(_ISSUE, Path("check.md")),
            settings.newsletter,
            settings.brand,
            settings.path(settings.paths.templates),
            public_url=settings.web.public_url,
        )
        unsigned = msgspec.structs.replace(settings, dkim=())
        editions.composer(unsigned, edition, editions.ANY_ISSUE, editions.POWERLESS)
    except MailerError as error:
        yield _problem(settings.origin("paths.templates"), error)
