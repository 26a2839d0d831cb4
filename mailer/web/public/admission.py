"""Which addresses may sign up, and how often: the rules of `[signup]`.

Nothing here depends on who is subscribed, so no answer reveals it.
"""

from __future__ import annotations

import logging
from typing import Final

from limits import RateLimitItemPerHour
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from mailer.address import Address
from mailer.catalogue import marked
from mailer.config import SignUp
from mailer.web.forms import network

# Those up to ftp come from RFC 2142.
ROLES: Final = frozenset(
    """info marketing sales support abuse noc security postmaster hostmaster usenet news webmaster www uucp
    ftp accounts admin administrator billing careers contact contactus customerservice help helpdesk hr jobs
    legal mail mailer-daemon no-reply noreply office orders press privacy root spam sysadmin team""".split()  # noqa: SIM905
)
A_ROLE: Final = marked("This address belongs to a role, not to a person. Please use a personal one.")
NOT_KEPT: Final = marked("We do not accept addresses from this provider. Please use another one.")
_ONCE: Final = RateLimitItemPerHour(1)
_log = logging.getLogger(__name__)


class Admission:
    """Refuses some addresses, and too many requests."""

    def __init__(self, rules: SignUp) -> None:
        self._roles = rules.roles
        self._refused = frozenset(rules.refused_domains) | (
            frozenset() if rules.disposable else _disposable()
        )
        self._per_client = RateLimitItemPerHour(rules.per_client)
        self._per_domain = RateLimitItemPerHour(rules.per_domain)
        self._in_all = RateLimitItemPerHour(rules.in_all)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def problem(self, address: Address) -> str:
        """Return why an address may not sign up, as a text of the catalogue, or an empty string."""
        if not self._roles and address.local.casefold().partition("+")[0] in ROLES:
            return A_ROLE
        labels = address.domain.split(".")
        above = (".".join(labels[start:]) for start in range(len(labels)))
        return NOT_KEPT if any(domain in self._refused for domain in above) else ""

    def take_client(self, ip: str) -> bool:
        """Count a request by a client; return whether it is within the limit."""
        return self._limiter.hit(self._per_client, "client", network(ip))

    def take_letter(self, address: Address) -> bool:
        """Count a letter to an address's domain; return whether it is within the limits."""
        if not self._limiter.hit(self._per_domain, "domain", address.domain):
            self._tell(f"at {address.domain}", "per_domain", self._per_domain.amount)
            return False
        if not self._limiter.hit(self._in_all, "all"):
            self._tell("in all", "in_all", self._in_all.amount)
            return False
        return True

    def _tell(self, where: str, key: str, most: int) -> None:
        # The operator should know of a sudden rush, but an attacker must not fill the log.
        if self._limiter.hit(_ONCE, "told", where):
            _log.warning(
                "sign-ups are refused: more than %d an hour %s; see [signup] %s in config.toml",
                most,
                where,
                key,
            )


def _disposable() -> frozenset[str]:
    # Imported only if needed: the list has thousands of domains.
    from disposable_email_domains import blocklist

    return frozenset(blocklist)
