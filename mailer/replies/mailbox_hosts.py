"""Which mailbox provider a domain belongs to, judged by its name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from msgspec import Struct

OTHER: Final = "other"
_PROVIDERS: Final = {
    "gmail.com": "google", "googlemail.com": "google",
    "outlook.*": "microsoft", "hotmail.*": "microsoft", "live.*": "microsoft", "msn.com": "microsoft",
    "yahoo.*": "yahoo", "ymail.com": "yahoo", "rocketmail.com": "yahoo", "aol.*": "yahoo",
    "icloud.com": "apple", "me.com": "apple", "mac.com": "apple",
    "gmx.*": "gmx and web.de", "web.de": "gmx and web.de",
    "orange.fr": "orange", "wanadoo.fr": "orange", "proton.me": "proton", "protonmail.com": "proton",
    "mail.ru": "mail.ru", "bk.ru": "mail.ru", "inbox.ru": "mail.ru", "list.ru": "mail.ru",
    "yandex.*": "yandex", "qq.com": "tencent", "foxmail.com": "tencent",
    "163.com": "netease", "126.com": "netease", "yeah.net": "netease",
}  # fmt: skip
"""The mailbox provider of each domain; `NAME.*` matches that name under any top-level domain."""


def provider_of(domain: str, configured: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return a domain's mailbox provider, judged by its name alone, or the domain itself."""
    first = domain.partition(".")[0]
    return configured.get(domain) or _PROVIDERS.get(domain) or _PROVIDERS.get(f"{first}.*") or domain


class Domains(Struct, frozen=True):
    """The domains of a mailbox provider, as `provider_of` judges them."""

    names: frozenset[str]
    labels: frozenset[str]
    """Every domain whose first label is one of these, except `others`."""
    others: frozenset[str]


def domains_of(provider: str, configured: Mapping[str, str] = MappingProxyType({})) -> Domains:
    """Return the domains of a provider, whose name may be that of a domain."""
    patterns = {name for name in _PROVIDERS if name.endswith(".*")}
    known = {*_PROVIDERS, *configured, provider} - patterns
    names = {name for name in known if provider_of(name, configured) == provider}
    labels = (name.removesuffix(".*") for name in patterns if _PROVIDERS[name] == provider)
    return Domains(frozenset(names), frozenset(labels), frozenset(known - names))


@lru_cache(maxsize=4096)
def known_provider(domain: str) -> str:
    """Return a domain's mailbox provider, or `other`: a label with few values."""
    provider = provider_of(domain)
    return provider if provider != domain else OTHER
