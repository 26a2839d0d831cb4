"""Mail hosts by the organisation that runs them."""

from __future__ import annotations

from typing import Final

# Second levels below which countries register names: `example.co.uk`.
_SECOND_LEVELS: Final = frozenset({"ac", "co", "com", "edu", "go", "gov", "ne", "net", "or", "org"})
_SAME: Final = {
    "googlemail.com": "google.com",
    "hotmail.com": "outlook.com",
    "yahoodns.net": "yahoo.com",
}


def host_group(host: str) -> str:
    """Return the domain that a mail host belongs to: `google.com` for `aspmx.l.google.com`.

    Empty if it is not a host name. Mail hosts of one large provider count as one.
    """
    labels = host.lower().strip().rstrip(".").split(".")
    if len(labels) < 2 or labels[-1].isdigit() or not all(labels):
        return ""
    length = 3 if len(labels) > 2 and len(labels[-1]) == 2 and labels[-2] in _SECOND_LEVELS else 2
    domain = ".".join(labels[-length:])
    return _SAME.get(domain, domain)
