"""The whole examination, in the order in which it is shown."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from datetime import datetime

from mailer.config import Settings, is_loopback
from mailer.database.engine import Database
from mailer.doctor.bimi import bimi, logo
from mailer.doctor.blocklists import blocklists
from mailer.doctor.dkim import dkim
from mailer.doctor.dmarc import dmarc
from mailer.doctor.findings import Finding, problem
from mailer.doctor.lifetimes import lifetimes
from mailer.doctor.machine import books, clock, disk
from mailer.doctor.names import Names, organizational
from mailer.doctor.pages import pages
from mailer.doctor.probe import probe
from mailer.doctor.receiving import exchangers, published_policy, publishes_sts, transport_security
from mailer.doctor.relays import connections, direct, own_names
from mailer.doctor.spf import spf
from mailer.errors import ConfigError, MailerError, install_command
from mailer.smtp.dkim import SigningKey, load_key


def examine(
    settings: Settings,
    database: Database,
    names: Names,
    *,
    with_blocklists: bool = False,
    with_probe: bool = False,
    at: datetime,
) -> Iterator[Finding]:
    """Yield the findings about an installation, one by one as each check ends.

    It contacts name servers, the relays and the pages, and changes nothing. It sends nothing, except with
    `with_probe` a message to the bounce domain. It blocks, for up to a minute if nothing answers, and two
    more for the probe. Raises `ConfigError` if a package is missing.
    """
    if importlib.util.find_spec("checkdmarc") is None:
        raise ConfigError(
            "doctor needs a package that is not installed (checkdmarc)",
            remedy=f"install it with: {install_command('doctor')}",
        )
    from checkdmarc.utils import DNS_CACHE

    # It would keep the answers of an earlier examination for half an hour.
    DNS_CACHE.clear()
    yield from domains(settings, names)
    yield from connected(settings, names, with_blocklists=with_blocklists, at=at)
    if with_probe:
        keys = [key for key in _keys(settings) if isinstance(key, SigningKey)]
        yield from _answered("route", settings.bounce_domain, probe(settings, database, keys, at=at))
    ours = list(
        dict.fromkeys(map(organizational, (settings.newsletter.author_domain, settings.bounce_domain)))
    )
    yield from lifetimes(names.lifetimes, ours)
    yield from clock(database)
    yield from disk(database.path.parent if database.path is not None else settings.folder)
    yield from books(database)


def domains(settings: Settings, names: Names) -> Iterator[Finding]:
    """Yield the findings from the DNS about the domains and the signing keys."""
    author, envelope = settings.newsletter.author_domain, settings.bounce_domain
    keys: list[SigningKey] = []
    for key in _keys(settings):
        if isinstance(key, Finding):
            yield key
        else:
            keys.append(key)
    policies: list[str] = []
    yield from _answered("spf", envelope, spf(names, envelope, list(settings.relays.values())))
    yield from _answered("dkim", author, dkim(names, keys))
    signing = [key.domain for key in keys]
    checked = dmarc(names, author, envelope=envelope, signing=signing, policies=policies)
    yield from _answered("dmarc", author, checked)
    box = next((box.host for box in settings.bounces.boxes), "")
    purposes = {author: ["replies"]}
    purposes.setdefault(envelope, []).append("bounces")
    purposes.setdefault(settings.unsubscribe_address.rpartition("@")[2], []).append("requests to unsubscribe")
    for domain, purpose in purposes.items():
        yield from _answered("mx", domain, exchangers(names, domain, _list(purpose), host=box))
    yield from _answered("mta-sts", envelope, transport_security(names, envelope))
    yield from _answered("bimi", author, bimi(names, author, policies))


def _keys(settings: Settings) -> Iterator[SigningKey | Finding]:
    """Yield each signing key, or what is wrong with its file."""
    for one in settings.dkim:
        try:
            yield SigningKey(one.domain, one.selector, load_key(settings.path(one.key_file)))
        except MailerError as error:
            yield problem("dkim", one.domain, error.message, remedy=error.remedy or "make a new key")


def connected(settings: Settings, names: Names, *, with_blocklists: bool, at: datetime) -> Iterator[Finding]:
    """Yield the findings about relays, pages and published files, and from blocklists."""
    greetings: dict[str, str] = {}
    relays = list(settings.relays.items())
    yield from connections(relays, settings.folder, greetings, at=at)
    yield from _answered("ptr", "[relays]", own_names(names, relays, greetings))
    yield from _answered("pages", settings.web.public_url, pages(names, settings.web.public_url, at=at))
    yield from _answered("mta-sts", settings.bounce_domain, _policies(names, settings))
    author = settings.newsletter.author_domain
    yield from _answered("bimi", author, logo(names, author))
    if with_blocklists:
        hosts = [
            greetings.get(name, "") if is_loopback(one.host) else one.host for name, one in direct(relays)
        ]
        try:
            addresses = [address for host in hosts if host for address in names.addresses(host)]
        except MailerError:
            # Reported above.
            addresses = []
        yield from _answered("blocklist", author, blocklists(names, addresses, [author]))


def _policies(names: Names, settings: Settings) -> Iterator[Finding]:
    if publishes_sts(names, settings.bounce_domain):
        yield from published_policy(names, settings.bounce_domain)


def _answered(check: str, subject: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """Yield findings; if a check cannot be completed, yield a problem in place of the rest."""
    try:
        yield from findings
    except MailerError as error:
        yield problem(check, subject, error.message, remedy=error.remedy or "try again later")


def _list(words: Sequence[str]) -> str:
    """Return `a, b and c`."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
