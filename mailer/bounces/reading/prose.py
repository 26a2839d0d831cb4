"""Read notifications without standard fields by their wording and layout.

The wording differs between systems, but they share a few layouts: the address alone or in brackets at the
start of a line with the reason after or below it (qmail, Postfix, Exim, Sendmail, Exchange, Yahoo,
DragonFly, OpenSMTPD, Courier), a labelled line (`Recipient: …`, `RCPT TO:`), or a sentence that names it.
They are tried in this order, and the first that finds an address wins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from mailer.bounces.reading.dsn import ADDRESS, MAX_RECIPIENTS, Facts, clean_address

MAX_LINES: Final = 4000
_MAX_LINE: Final = 1000
_BLOCK_LINES: Final = 14
_MAX_MORE: Final = 5
# Real notifications name few recipients in running text.
_MAX_SENTENCES: Final = 50
_LOOKED_AT: Final = 4096

_COPY_FOLLOWS: Final = re.compile(
    r"^[ \t>|*_=#.-]{0,80}+(?:"
    r"this is a copy of (?:the|your) (?:original )?message(?:, including[^\n]{0,60})?"
    r"|(?:below|enclosed)(?: this line)? is (?:a copy of )?(?:the )?(?:original )?(?:message|mail)?"
    r"|(?:the )?(?:original|returned|unsent|undelivered|bounced|rejected|failed) (?:e-?mail|message"
    r"|mail)"
    r"(?: (?:text|headers?|body|info|information|source|content|detail)s?)?(?: (?:follows?|is attached"
    r"|was|below))?"
    r"|(?:the )?(?:message|mail) (?:headers?|text|body|contents?|source)(?: (?:follows?|below))?"
    r"|(?:the )?header of the original message"
    r"|(?:original|returned) (?:mail|message) (?:info|headers?)"
    r"|(?:text|start|beginning) of (?:the )?(?:original |returned )?message"
    r"|bounced e-?mail|forwarded message|returned message|urspr.ngliche nachricht|mensaje original"
    r"|message d'origine"
    r")[ \t]*(?:follows)?[ \t:.|*_=#-]{0,80}$",
    re.IGNORECASE,
)
_COPY_STARTS: Final = re.compile(
    r"^(?:Received: (?:from|by|\()|Return-Path: ?<|DKIM-Signature: |X-Received: by )", re.I
)
# Each of the two patterns matches only lines that begin with one of these words.
_BEFORE_COPY: Final = " \t>|*_=#.-"
_COPY_WORDS: Final = (
    "this ", "below", "enclosed", "original", "returned", "unsent", "undelivered", "bounced", "rejected",
    "failed", "the ", "message", "mail", "header", "text of", "start of", "beginning of", "forwarded",
    "urspr", "mensaje", "received", "return-path", "dkim-", "x-received",
)  # fmt: skip

_ADDRESS: Final = ADDRESS.pattern
_AT_START: Final = re.compile(
    r"^[ \t]{0,16}(?P<code>[45]\d\d[ -](?:[45][\d.]{4,9} )?)?(?:[*•>-]{1,4}[ \t]+)?[<\"'(\[]{0,2}"
    rf"(?P<address>{_ADDRESS})[>\"')\]]{{0,2}}"
    rf"(?:[ \t]+\(?<?(?P<second>{_ADDRESS})>?\)?)?(?:<mailto:[^<>]{{1,300}}>)?[ \t]*"
    r"(?P<rest>$|[:;].*|\.{2,3}.*|\(.*|-+[ \t].*|,[ \t]*\w.*|(?<=\s)(?:on \S|\[|[A-Z]).*)",
)
_FORWARDED: Final = re.compile(
    rf"(?:expanded from|generated (?:from|by)):?\s{{1,4}}<?(?P<address>{_ADDRESS})", re.IGNORECASE
)
_LABELLED: Final = re.compile(
    r"^[ \t>*-]{0,12}(?:(?:original |final |failed |intended )?recipients?(?: address(?:es)?)?"
    r"|addressed to|original address|\(?(?:ultimately )?generated (?:by|from)|\(expanded from"
    r"|failed addresse?s?|undeliverable to|delivery failed|failed to deliver to|e-?mail address"
    r"|target mail address"
    r"|could not be delivered to|unknown user|invalid (?:final delivery )?userid"
    r"|user mailbox exceeds allowed size"
    r"|(?:sent|>>>|smtp)?[ \t<:]*rcpt to|delivery to|unable to deliver (?:message|mail)? ?to|message to"
    r"|mail to|user|address|"
    r"undelivered to|not delivered to|no such user|error message for|failed rcpt|reason for failure for"
    r"|for|destinatario|empf.nger|destinataire)"
    rf"[ \t]*[:=]?[ \t]*[<\"'(\[]{{0,2}}(?P<address>{_ADDRESS})(?P<rest>.*)$",
    re.IGNORECASE,
)
_SENTENCE: Final = re.compile(
    r"(?:deliver\w*|undeliverable|reach\w*|sen[dt]|mail\w*|message|recipients?|address\w*|user|account"
    r"|mailbox|group|to|for)\b"
    rf"[^@\n]{{0,60}}?[\s<\"'(:\[]{{1,3}}(?P<address>{_ADDRESS})(?P<rest>[^\n]*)",
    re.IGNORECASE,
)
_NOT_ABOUT_RECIPIENT: Final = re.compile(
    r"postmaster|contact|assistance|help ?desk|administrator at|support@|abuse@|mail from|^[ \t]*(?:from"
    r"|sender|reply-to|return-path"
    r"|message-id|cc|x-[\w-]+|received|in-reply-to|references|errors-to)[ \t]*[:=]|mailto:(?:postmaster"
    r"|support)|envelope.?from"
    r"|address[^@\n]{0,40}(?:changed|moved)(?: to)?|new (?:e-?mail )?address"
    r"|(?:message|mail) from|from:? <|sent by|sender|f=\[|dear |hello |hi ",
    re.IGNORECASE,
)
_COMMANDS: Final = (
    ("BODY", "end of data", ("end of data",)),
    ("BODY", "after ", ("after message text", "failed after i sent the message")),
    ("DATA", "data", (
        "in reply to data", "after data", "after pipelined data", "after sending data", "in data command",
        "(data)", "following data command", "step: data", "data send",
    )),
    ("RCPT", "rcpt", (
        "in reply to rcpt", "after rcpt", "after pipelined rcpt", "in rcpt to", "smtp:rcpt",
        "our rcpt to", "rcpt to:<", "following rcpt", "[rcpt_to]", "step: rcpt", "rcpt to response",
    )),
    ("RCPT", "recipient", ("does not like recipient", "rejected recipient")),
    ("MAIL", "mail", (
        "in reply to mail", "after mail from", "after pipelined mail from", "in mail from",
        "our mail from", "[mail_from]", "following mail from", "smtp:mail", "step: mail",
    )),
    ("MAIL", "sender", ("does not like sender",)),
    ("CONN", "connect", ("initial connection", "connection was refused by", "on connect")),
    ("CONN", "lo", ("in reply to ehlo", "in reply to helo", "after ehlo", "after helo")),
    ("CONN", "re", ("refused to talk to me", "but greeting failed", "my name was rejected")),
)  # fmt: skip
"""The phrases by which systems say which command was rejected, in order of precedence.

The word before the phrases is in each of them; most texts lack it, which saves looking for the phrases.
"""
FOOTER: Final = (
    r"scanned (?:for|by)|virus[- ]?free|malware[- ]?free|spam[- ]?free|checked for (?:viruses|spam)"
    r"|swept (?:for|by)"
    r"|came from the internet|come from the internet|outgoing messages? .{0,20}certified"
    r"|confidential|privileged|disclaimer|intended (?:solely|only|recipient)|unauthori[sz]ed (?:use|review)"
    r"|think before (?:you )?print|environment before printing|registered (?:in|office)|all rights reserved"
)
"""Phrases of banners and disclaimers, in lower case; they say nothing about the recipient."""
_FOOTER: Final = re.compile(FOOTER)
# Each alternative above contains one of these words, and searching for words is much faster.
_FOOTER_WORDS: Final = (
    "scanned", "free", "checked", "swept", "internet", "certified", "confidential", "privileged",
    "disclaimer", "intended", "unauthori", "before", "registered", "reserved",
)  # fmt: skip
_RULE: Final = re.compile(r"[ \t]*(?:[_*=#~-][ \t]?){10,200}$")
_SAID_BY: Final = re.compile(
    r"\b(?:sent|submitted|received|written|created|posted|message|e?-?mail|sender|author) (?:by|from)[ \t]*:?"
    r"[ \t]*$|^[ \t]*(?:sender|from)[ \t]*:?[ \t]*$",
    re.IGNORECASE,
)
"""Matches the end of a line after which the sender's address follows."""
_SAID_BY_WORDS: Final = ("by", "from", "sender")
_NEXT_REPLY: Final = re.compile(r"(?:[245]\d\d |>>>|<<<|(?:\.\.\. )?while talking to)", re.IGNORECASE)
_OWN_REPLY: Final = re.compile(r"[45]\d\d [45]\.\d\.\d+ <")
_SAID: Final = re.compile(
    r"^[ \t]*(?:[\w: .,-]{0,40}?[ \t])?(>>>|<<<|-->|<--|Sent <<<|Received >>>|In: |Out:)[ \t]?(.*)$"
)
_ASKED: Final = frozenset({">>>", "-->", "Sent <<<", "In: "})
_TRANSCRIPT_NOISE: Final = re.compile(
    r"^(?:2\d\d|3\d\d|503|554 (?:5\.5\.\d )?(?:error: )?no valid recip)", re.I
)


def split_copy(text: str) -> tuple[str, str]:
    """Split a text into the notification and the copy of the original message that follows it."""
    lines = text.split("\n")
    for number, line in enumerate(lines[:MAX_LINES]):
        if len(line) >= 200 or not line.lstrip(_BEFORE_COPY)[:12].lower().startswith(_COPY_WORDS):
            continue
        if _COPY_FOLLOWS.match(line) or (number > 2 and _COPY_STARTS.match(line)):
            return "\n".join(lines[:number]), "\n".join(lines[number + (not _COPY_STARTS.match(line)) :])
    return "\n".join(lines[:MAX_LINES]), ""


def find_recipients(notice: str, is_ours: Callable[[str], bool]) -> list[Facts]:
    """Return the recipients in a notification, each with the words next to it.

    `is_ours` returns whether an address belongs to the sender or the reporting system. Such an address counts
    only where the layout is unambiguous.
    """
    lines = [line[:_MAX_LINE] for line in notice.split("\n")]
    for find in (_by_layout, _by_label):
        found = list(find(lines, is_ours))
        if found:
            return _merged(found)
    return []


def find_in_sentences(notice: str, is_ours: Callable[[str], bool]) -> list[Facts]:
    """Return the recipients named in running text, which is weaker evidence than a layout."""
    lines = [line[:_MAX_LINE] for line in notice.split("\n")]
    found = list(_by_sentence(lines, is_ours))
    if not found:
        # In other languages, take the first address that is not ours.
        named = (clean_address(address) for line in lines for address in _named(line))
        found = [Facts(address=address) for address in named if not is_ours(address)][:1]
    return _merged(found)


def words_beside_addresses(notice: str) -> dict[str, str]:
    """Return the words next to each address (in lower case) at the start of a line."""
    if "@" not in notice:
        return {}
    lines = [line[:_MAX_LINE] for line in notice.split("\n")]
    # Sendmail ends its transcript with a reply of its own, which the other side did not send.
    lines = [line for line in lines if not _OWN_REPLY.match(line)]
    return {facts.address.lower(): facts.diagnostic for facts in _by_layout(lines, lambda address: False)}


def command_in(text: str) -> str:
    """Return the SMTP command that was rejected according to a text, or an empty string."""
    text = text[:_LOOKED_AT].lower()
    for command, word, phrases in _COMMANDS:
        if word in text and any(phrase in text for phrase in phrases):
            return command
    return ""


def transcript(notice: str) -> list[tuple[str, str]]:
    """Return the rejections in an SMTP transcript (`>>> RCPT …`, `<<< 550 …`): command and full reply."""
    refusals: list[tuple[str, str]] = []
    if not any(mark in notice for mark in ("<<<", "<--", "Out:", "Received >>>")):
        return refusals
    command, reply = "", ""
    for line in notice.split("\n")[:MAX_LINES]:
        found = _SAID.match(line[:_MAX_LINE])
        if found is None:
            continue
        if found[1] in _ASKED:
            if reply:
                refusals.append((command, reply))
                reply = ""
            command = found[2].strip().split(" ")[0].upper() if found[2].strip() else command
        elif not _TRANSCRIPT_NOISE.match(found[2]):
            reply = f"{reply} {found[2].strip()}".strip()
            if not re.match(r"\d{3}-", found[2]):
                refusals.append((command, reply))
                reply = ""
    if reply:
        refusals.append((command, reply))
    return refusals


def _by_layout(lines: list[str], is_ours: Callable[[str], bool]) -> Iterator[Facts]:
    """Yield addresses at the start of a line, with the rest of that line and the lines below it."""
    hits = _starts(lines)
    starts = {number for number, _ in hits}
    plain = [hit for hit in hits if not hit[1]["rest"] or hit[1]["rest"].startswith((":", "..."))]
    strict = [hit for hit in hits if not is_ours(clean_address(hit[1]["address"]))] or plain
    for number, found in strict[:MAX_RECIPIENTS]:
        address = found["second"] if found["second"] and "<" in lines[number] else found["address"]
        words = _block(lines, number, (found["code"] or "") + found["rest"].lstrip(" :;."), starts)
        forwarded = _FORWARDED.search(words) if "ed " in words.lower() else None
        yield Facts(
            address=clean_address(address),
            original=clean_address(forwarded["address"]) if forwarded else "",
            diagnostic=words,
        )


def _starts(lines: list[str]) -> list[tuple[int, re.Match[str]]]:
    """Return the lines that begin with a recipient's address, with their numbers.

    Excludes lines that continue the words about the recipient above (indented further, without an empty line
    between) and the sender, named after "a message sent by".
    """
    hits: list[tuple[int, re.Match[str]]] = []
    indentation, last = -1, 0
    for number, line in enumerate(lines):
        if "@" not in line or (found := _AT_START.match(line)) is None or found["address"].startswith("/"):
            continue
        if not all(map(str.strip, lines[last:number])):
            indentation = -1
        last = number
        depth = len(line) - len(line.lstrip())
        if 0 <= indentation < depth or _names_sender(_line_above(lines, number)):
            continue
        hits.append((number, found))
        indentation = depth
    return hits


def _names_sender(line: str) -> bool:
    """Return whether the sender's address follows a line, such as "a message sent by"."""
    last_words = line.rstrip(" \t:")[-6:].lower()
    return last_words.endswith(_SAID_BY_WORDS) and _SAID_BY.search(line) is not None


def _line_above(lines: list[str], number: int) -> str:
    """Return the end of the last line with text above a line, or an empty string."""
    return next((lines[at][-80:] for at in range(number - 1, -1, -1) if lines[at].strip()), "")


def _block(lines: list[str], number: int, first: str, starts: set[int]) -> str:
    """Return the words about a recipient: the rest of the line, and the lines below that belong to it."""
    block = [first]
    for later in range(number + 1, min(number + _BLOCK_LINES, len(lines))):
        line = lines[later]
        if later in starts or (any(block) and (not line.strip() or _NEXT_REPLY.match(line))):
            break
        if _RULE.match(line) or _is_footer(line.lower()):
            break
        block.append(line.strip())
    return " ".join(block).strip()


def _is_footer(line: str) -> bool:
    """Return whether a line in lower case belongs to a banner or a disclaimer."""
    return any(word in line for word in _FOOTER_WORDS) and _FOOTER.search(line) is not None


def _by_label(lines: list[str], is_ours: Callable[[str], bool]) -> Iterator[Facts]:
    for number, line in enumerate(lines):
        if "@" not in line:
            continue
        found = _LABELLED.match(line)
        if found and not is_ours(clean_address(found["address"])):
            below = " ".join(part.strip() for part in lines[number + 1 : number + _BLOCK_LINES])
            before = line[: found.start("address")]
            yield Facts(
                address=clean_address(found["address"]),
                diagnostic=f"{before} {found['rest']} {below}".strip(),
            )


def _by_sentence(lines: list[str], is_ours: Callable[[str], bool]) -> Iterator[Facts]:
    """Yield addresses in running text, including those wrapped onto the next line."""
    hits = 0
    for number, line in enumerate(lines):
        if "@" not in line or _NOT_ABOUT_RECIPIENT.search(line):
            continue
        before = lines[number - 1] if number else ""
        found = _SENTENCE.search(f"{before[-80:]} {line}")
        if found and not is_ours(clean_address(found["address"])):
            around = " ".join(part.strip() for part in lines[max(0, number - 3) : number + _BLOCK_LINES])
            yield Facts(address=clean_address(found["address"]), diagnostic=around)
            hits += 1
            if hits == _MAX_SENTENCES:
                return


def _named(line: str) -> list[str]:
    """Return the addresses in a line, unless it is about senders or contacts."""
    return [] if "@" not in line or _NOT_ABOUT_RECIPIENT.search(line) else ADDRESS.findall(line)


def _merged(found: list[Facts]) -> list[Facts]:
    """Return one entry for each address, with the words of repeated entries combined."""
    by_address: dict[str, Facts] = {}
    for facts in found:
        known = by_address.setdefault(facts.address.lower(), facts)
        if known is not facts and facts.diagnostic:
            if known.diagnostic and len(known.more) < _MAX_MORE:
                known.more.append(facts.diagnostic)
            elif not known.diagnostic:
                known.diagnostic = facts.diagnostic
    return list(by_address.values())
