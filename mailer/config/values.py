"""The types and checks of values in config.toml, and the base class of its sections."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import time, timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Meta, Struct

from mailer.address import check_header_text, parse_address, parse_domain

Check = Callable[[Any], Any]
"""Returns the normal form of a value, or raises `ValueError`."""


class Secret:
    """Text that is never shown: only `get_secret_value` returns it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def get_secret_value(self) -> str:
        """Return the text."""
        return self._text

    def __repr__(self) -> str:
        return "Secret('********')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


def masked_url(url: str) -> str:
    """Return a URL with its passwords masked, and any other text unchanged."""
    return _URL_PASSWORD.sub(lambda found: f"{found[1] or found[2]}********", url)


_URL_PASSWORD: Final = re.compile(r"(://[^:/@]*:)[^@]*(?=@)|([?&]\w*password=)[^&]*", re.IGNORECASE)


def written_duration(value: timedelta) -> str:
    """Return a duration as ISO 8601: in days from three days up, otherwise in hours, minutes or seconds."""
    seconds = value.total_seconds()
    if value.days > 2 and not seconds % 86_400:
        return f"P{value.days}D"
    if seconds and not seconds % 3600:
        return f"PT{seconds / 3600:.0f}H"
    return f"PT{seconds / 60:.0f}M" if not seconds % 60 else f"PT{seconds:.10g}S"


class Share(float):
    """A number from 0 to 1, written like `2%`."""


_SHARE: Final = re.compile(r"(\d+(?:\.\d+)?) ?%")


def parse_share(value: object) -> object:
    """Return the number from 0 to 1 for text like `2%`, and anything else unchanged."""
    if not isinstance(value, str):
        return value
    found = _SHARE.fullmatch(value.strip())
    if found is None:
        raise ValueError(f"'{value}' is not a share; write it like '2%' or '0.5%'")
    return float(found[1]) / 100


def expanded(path: Path) -> Path:
    """Return a path with `~` replaced by the home folder, where there is one."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def is_ip_address(host: str) -> bool:
    """Return whether a host is an address and not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is a loopback one."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class FieldError(ValueError):
    """The problem with the value at `keys` within a section."""

    def __init__(self, keys: tuple[str, ...], reason: str) -> None:
        super().__init__(reason)
        self.keys = keys


def checked_address(text: str) -> str:
    """Return an address in its normal form; empty stays empty."""
    return str(parse_address(text)) if text else text


def checked_domain(text: str) -> str:
    """Return a domain in its normal form; empty stays empty."""
    return parse_domain(text) if text else text


def checked_domains(texts: Iterable[str]) -> tuple[str, ...]:
    """Return domains in their normal form."""
    return tuple(parse_domain(text) for text in texts)


def checked_networks(texts: Iterable[str]) -> tuple[str, ...]:
    """Return IP addresses and networks in their normal form."""
    return tuple(str(ipaddress.ip_network(text)).removesuffix("/32").removesuffix("/128") for text in texts)


def checked_zone(text: str) -> str:
    """Return the name of an IANA time zone; empty stays empty."""
    try:
        return ZoneInfo(text).key if text else text
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"there is no time zone '{text}'; write it like Europe/Bucharest") from error


def checked_clock(text: str) -> str:
    """Return a time of day."""
    try:
        return f"{time.fromisoformat(text):%H:%M}"
    except ValueError as error:
        raise ValueError(f"'{text}' is not a time of day; write it like 08:00") from error


def checked_trigger(text: str) -> str:
    """Return the trigger of a sequence in its normal form."""
    kind, colon, value = text.partition(":")
    if (kind in ("confirmed", "api") and not colon) or (kind in ("tag", "date") and value.strip()):
        return f"{kind}:{value.strip()}" if colon else kind
    raise ValueError(f"'{text}' is not a trigger; write confirmed, tag:NAME, date:ATTRIBUTE or api")


def checked_root_url(text: str) -> str:
    """Return a URL without a path: pages, feeds and links are served from the root of their host."""
    if urlsplit(text).path.strip("/"):
        raise ValueError("it must not have a path; give the pages their own host name")
    return text


def checked_hub(text: str) -> str:
    """Return an http or https URL; empty stays empty."""
    try:
        valid = not text or (re.fullmatch(_WEB_URL, text) and urlsplit(text).port != 0)
    except ValueError:
        valid = False
    if not valid or not text.isascii():
        raise ValueError("it must be an address such as 'https://hub.example.org/'")
    return text


def checked_header_text(text: str) -> str:
    """Return text that is valid in a header field."""
    return check_header_text(text, field="value")


def at_least(least: timedelta) -> Check:
    """Return a check for a minimum duration."""

    def check(value: timedelta) -> timedelta:
        if value < least:
            hours = least.total_seconds() / 3600
            raise ValueError(f"it must be {hours:g} hours or more" if least else "it must not be negative")
        return value

    return check


def labels(key: re.Pattern[str], key_form: str, most: int) -> Check:
    """Return a check for a table of labels: the form of its keys, and at most `most` of them."""

    def check(labels: Mapping[str, str]) -> Mapping[str, str]:
        if len(labels) > most:
            raise ValueError(f"there may be {most} at most")
        for name, label in labels.items():
            try:
                if not key.fullmatch(checked_header_text(name)):
                    raise ValueError(f"the name must be {key_form}")
                if not 0 < len(checked_header_text(label)) <= 120:
                    raise ValueError("it must have 1 to 120 characters")
            except ValueError as error:
                raise FieldError((name,), str(error)) from error
        return labels

    return check


TAG: Final = re.compile(r"\S(.{0,62}\S)?")
REASON: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_COLOUR: Final = r"^#[0-9a-fA-F]{6}$"
_HTTP_URL: Final = r"^https?://[^\s/?#]+[^\s?#]*$"
_WEB_URL: Final = r"^https?://[^\s/?#]+\S*$"
_LANGUAGE: Final = r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$"
FORMS: Final = {
    _COLOUR: "a colour such as '#0b6e4f'",
    _HTTP_URL: "an address such as 'https://news.example.org', without ? and #",
    _WEB_URL: "an address such as 'https://example.org/profile?id=1'",
    _LANGUAGE: "a language such as 'en' or 'pt-BR'",
}
"""The words that error messages use instead of the pattern."""
Colour = Annotated[str, Meta(pattern=_COLOUR)]
WebUrl = Annotated[str, Meta(pattern=_WEB_URL)]
HttpUrl = Annotated[str, Meta(pattern=_HTTP_URL)]
Language = Annotated[str, Meta(pattern=_LANGUAGE)]
Port = Annotated[int, Meta(ge=1, le=65535)]


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of config.toml: frozen; an unknown key is an error."""

    CHECKS: ClassVar[dict[str, Check]] = {}
    """Checks of values beyond their types, by key."""

    def __post_init__(self) -> None:
        """Replace values with what their checks return; raise `FieldError`."""
        for name, check in self.CHECKS.items():
            value = getattr(self, name)
            try:
                checked = check(value)
            except FieldError as error:
                raise FieldError((name, *error.keys), str(error)) from error
            except ValueError as error:
                raise FieldError((name,), str(error)) from error
            if checked != value:
                msgspec.structs.force_setattr(self, name, checked)
