"""Find the recipients of a report, and the facts that it states about each."""

from __future__ import annotations

from typing import Final

from mailer.bounces.reading import flufl, kinds
from mailer.bounces.reading.dsn import (
    ADDRESS,
    MAX_RECIPIENTS,
    Facts,
    clean_address,
    first_address,
    read_fields,
)
from mailer.bounces.reading.mail import ReturnedMail
from mailer.bounces.reading.prose import (
    find_in_sentences,
    find_recipients,
    transcript,
    words_beside_addresses,
)

_OUR_FIELDS: Final = (
    "to", "from", "return-path", "reply-to", "delivered-to", "x-original-to", "envelope-to",
)  # fmt: skip
"""Fields of a report that name us or the reporting system."""
_ORIGINAL_SENDER_FIELDS: Final = ("from", "return-path", "sender", "reply-to", "x-sender")


def facts_in_status(mail: ReturnedMail) -> tuple[list[Facts], str]:
    """Return the recipients in a mail's delivery status, and the system that reports."""
    facts: list[Facts] = []
    reporting = ""
    for text in mail.status_texts[:50]:
        more, reported_by = read_fields(text)
        facts += more[: MAX_RECIPIENTS - len(facts)]
        reporting = reporting or reported_by
    by_address: dict[tuple[str, str], Facts] = {}
    for one in facts:
        by_address.setdefault((one.address.lower(), one.action), one)
    return list(by_address.values()), reporting


def facts_in_prose(mail: ReturnedMail, facts: list[Facts]) -> list[Facts]:
    """Return the recipients of a mail without delivery status.

    They come from a header, the wording and layout, flufl.bounce, or else from the returned mail.
    """
    ours = _our_addresses(mail)

    def is_ours(address: str) -> bool:
        return kinds.is_role(address) or address.lower() in ours

    found = _with_header(mail, find_recipients(mail.notice, is_ours))
    found = found or [Facts(address=address) for address in flufl.vote(mail.raw)]
    if mail.is_from_system:
        found = found or find_in_sentences(mail.notice, is_ours) or _first_of_original(mail)
    known = facts[0] if facts else Facts()
    for one in found:
        one.action = one.action or known.action
        one.status = one.status or known.status
        if known.diagnostic:
            one.more.insert(0, known.diagnostic)
    return found


def _our_addresses(mail: ReturnedMail) -> set[str]:
    """Return the addresses, in lower case, of the sender and of the system that reports."""
    values = mail.headers.all(*_OUR_FIELDS) + mail.original.all(*_ORIGINAL_SENDER_FIELDS)
    named = (value[:1000] for value in values if "@" in value)
    return {clean_address(address).lower() for value in named for address in ADDRESS.findall(value)}


def _with_header(mail: ReturnedMail, found: list[Facts]) -> list[Facts]:
    """Return the recipients that `X-Failed-Recipients` names, unless all that were found have words."""
    values = mail.headers.all("x-failed-recipients")
    named = [clean_address(address) for value in values for address in ADDRESS.findall(value)]
    if not named or all(one.diagnostic for one in found):
        return found
    by_address = {one.address.lower(): one for one in found}
    unique = dict.fromkeys(named[:MAX_RECIPIENTS])
    return [by_address.get(address.lower(), Facts(address=address)) for address in unique]


def _first_of_original(mail: ReturnedMail) -> list[Facts]:
    """Return the recipient in the first address field of the returned mail."""
    fields = mail.original.all("to", "x-original-to", "delivered-to")[:1]
    return [Facts(address=address) for value in fields if (address := first_address(value))]


def add_words(facts: list[Facts], notice: str) -> None:
    """Add the words of the notice and its transcript about each recipient."""
    said = transcript(notice)
    beside = words_beside_addresses(notice)
    for one in facts:
        for address in {one.address.lower(), one.original.lower()}:
            words = beside.get(address, "")
            if words and words != one.diagnostic:
                one.more.append(words)
        for command, reply in said:
            if len(facts) == 1 or one.address.lower() in reply.lower():
                one.command = one.command or command
                one.more.append(reply)
