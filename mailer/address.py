"""Parse and normalise email addresses, and keep unsafe text out of headers and envelopes."""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from mailer.errors import AddressError
from mailer.printable import escaped

# CR, LF, NUL and every other C0 or C1 control, with the Unicode line and paragraph separators:
# any of them in a header field would end it or hide the rest of it.
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# Embeddings, overrides and isolates: they change the order in which text is displayed.
_BIDI: Final = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# ASCII letters, digits and hyphens, and not an A-label.
_LABEL: Final = "(?!..--)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# A domain that is its own encoding.
_PLAIN_DOMAIN: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
# Nearly every address matches this and needs no further check: an import of a million takes seconds
# with it and minutes without.
_PLAIN: Final = re.compile(
    r"(?P<local>[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*)"
    rf"@(?P<domain>(?:{_LABEL}\.)+(?P<top>[A-Za-z]{{2,24}}))"
)
# White space and zero-width characters, which surround text copied from web pages and spreadsheets.
_INVISIBLE: Final = "\\s\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff"
_ENDS: Final = re.compile(f"^[{_INVISIBLE}]+|[{_INVISIBLE}]+$")
# Text in a quoted local part that a careless server could read as part of a MAIL or RCPT command.
_SMUGGLED: Final = re.compile(r"[<>]|(?:^|[\s\"])[A-Za-z0-9-]+=|=\?")
_SPECIAL: Final = frozenset({"arpa", "invalid", "local", "localhost", "onion", "test", "example"})
# RFC 5321 section 4.5.3.1: local part 64 octets, path 256 octets including the brackets.
MAX_ADDRESS_OCTETS: Final = 254
MAX_LOCAL_OCTETS: Final = 64
_MAX_DOMAIN_OCTETS: Final = 253


class Address(Struct, frozen=True):
    """One mailbox address.

    `local` is as its owner writes it; `domain` is lower-case A-labels (RFC 5890).
    """

    local: str
    domain: str

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}"

    @property
    def key(self) -> str:
        """The case-folded address; two spellings with the same key are the same subscriber."""
        return f"{self.local.casefold()}@{self.domain}"

    @property
    def needs_smtputf8(self) -> bool:
        """Whether the local part can only be sent with SMTPUTF8 (RFC 6531)."""
        return not self.local.isascii()


class Envelope(Struct, frozen=True):
    """The envelope of a message: MAIL FROM and a single RCPT TO (RFC 5321 section 2.3.1)."""

    sender: str
    recipient: str
    smtputf8: bool = False


def parse_address(text: str) -> Address:
    """Return the address in `text`, or raise `AddressError` with the problem.

    Domains are checked by syntax, not in DNS. Internationalised domains become A-labels;
    local parts that are not ASCII are kept (RFC 6531).
    """
    text = text.strip(" \t")
    if plain := _PLAIN.fullmatch(text):
        local, domain = plain["local"], plain["domain"].lower()
        if (
            len(local) <= MAX_LOCAL_OCTETS
            and len(text) <= MAX_ADDRESS_OCTETS
            and plain["top"].lower() not in _SPECIAL
        ):
            return Address(local, domain)
    if _CONTROL.search(text):
        raise AddressError(f"{shown(text)}: an address must not contain control characters")
    # Imported here because few addresses need it.
    from email_validator import EmailNotValidError, validate_email

    try:
        checked = validate_email(
            text, check_deliverability=False, allow_quoted_local=True, test_environment=True
        )
    except EmailNotValidError as error:
        raise AddressError(f"{shown(text)}: {str(error).rstrip('.')}") from error
    address = Address(checked.local_part, checked.ascii_domain.lower())
    if len(address.local.encode()) > MAX_LOCAL_OCTETS:
        raise AddressError(f"{shown(text)}: more than {MAX_LOCAL_OCTETS} octets before the @")
    if "=?" in address.local or (text.startswith('"') and _SMUGGLED.search(text.rpartition("@")[0])):
        raise AddressError(f"{shown(text)}: looks like an encoded word or a parameter, not like an address")
    return address


def mailbox_in(text: str) -> str:
    """Return the address in a cell of a file, without a name, `mailto:` or invisible characters around it.

    `"Ana <ana@example.org>"` becomes `"ana@example.org"`. The result is not checked.
    """
    if text.isascii() and "<" not in text and ":" not in text:
        return text.strip()
    text = _ENDS.sub("", text)
    if text.endswith(">") and text.count("<") == 1:
        text = _ENDS.sub("", text[text.index("<") + 1 : -1])
    return text[7:] if text[:7].lower() == "mailto:" else text


def parse_domain(text: str) -> str:
    """Return a domain as lower-case A-labels (RFC 5891), or raise `AddressError`."""
    text = text.strip().rstrip(".")
    if len(text) <= _MAX_DOMAIN_OCTETS and _PLAIN_DOMAIN.fullmatch(text):
        return text.lower()
    # Imported here because few domains need its large tables.
    import idna

    try:
        # Another script's full stop at the end is one, too.
        return idna.encode(text, uts46=True).decode("ascii").rstrip(".").lower()
    except (idna.IDNAError, UnicodeError) as error:
        raise AddressError(f"{shown(text)}: not a domain name ({error})") from error


def check_header_text(text: str, *, field: str) -> str:
    """Return `text` unchanged if it may go into a header; else raise `AddressError` naming `field`.

    Refused: control characters and line separators (header injection), bidirectional controls, and
    text that looks like an encoded word (RFC 2047), which some clients would decode again.
    """
    if found := _CONTROL.search(text):
        raise AddressError(f"{field}: contains the control character U+{ord(found[0]):04X}")
    if found := _BIDI.search(text):
        raise AddressError(f"{field}: contains the direction control U+{ord(found[0]):04X}")
    if "=?" in text:
        raise AddressError(f"{field}: contains '=?', which email clients read as an encoded word")
    return text


def shown(text: str, limit: int = 120) -> str:
    """Return `text` quoted for an error message: control characters escaped, cut off at `limit`."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return f"'{escaped(cut)}'"
