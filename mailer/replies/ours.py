"""A small grammar of refusals of us: a noun for something of ours, and a word that refuses it."""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from mailer.replies.words import Words

_OURS: Final = (
    r"(?:envelope )?sender(?: (?:address|domain|host|name|mailbox|account|ip|id|user|server))*"
    r"|(?:mail )?from(?: :)? (?:address|domain|header|user)|client host(?: ?name)?"
    r"|(?:sending|send|sent) from|connections? from|(?:return|reply) address|identity"
    r"|(?:smtp )?auth(?:entication)?|login|(?:relay|api) (?:user|account|key)"
    r"|(?:connecting|source) (?:host|ip|server|address)"
    r"|envelope (?:from|address)|return path|reverse path|bounce address|mailfrom|originator"
    r"|(?:helo|ehlo)(?: (?:name|host|hostname|command|domain|argument))?|callback"
    r"|sending (?:domain|address|account|host|hostname|server|system|ip|mta|mailbox|user|organi[sz]ation"
    r"|tenant)"
    r"|(?:sasl|authenticated|authenticating|submitting|login) (?:user|username|account|id)"
    r"|your (?:own )?(?:ip|domain|email|e mail|address|account|mailbox|user|user ?name|host|hostname|server"
    r"|mail server|smtp|mta|helo|network|isp|dns|mx|spf|dkim|dmarc|organi[sz]ation|tenant|subscription"
    r"|login|credentials|envelope|sender|from|return path|identity|provider)"
    r"(?: (?:address|account|name|server|domain|records?|policy))*"
    r"|spf|dkim|dmarc|domainkeys|sender policy framework"
)
"""Nouns for something of ours, never for something of the recipient's."""
_PERHAPS_OURS: Final = (
    r"mail from|client(?: (?:ip|address|name))?|remote (?:host|ip|server|address)|ip(?: address)?|author"
    r"|host #|host ?name"
)
"""Nouns that also occur as quotes in a refusal of the recipient."""
_RECIPIENT_NOUN: Final = (
    r"users?|recipients?|rcpt|mailbox(?:es)?|addressee|customer|destination|alias|inbox|person|subscriber"
    r"|receiver"
)
_REFUSED: Final = (
    r"(?:rejected|refused|denied|unknown|invalid|unauthori[sz]ed|unverified|unresolvable|unroute?able"
    r"|undeliverable|nonexistent|forged|spoofed|fake|blocked|blacklisted|blocklisted|listed|banned|suspended"
    r"|disabled|locked|deactivated|inactive|closed|expired|terminated|frozen|restricted|mismatch|missing"
    r"|malformed|bad|failed|failure|fails?|unacceptable|nullmx|not|cannot|no|without|unable|never|\w{2,7}n't"
    r"|exceeded|exceeds|poor|low|non|over|required|null|wrong|illegal|unavailable|black)"
    rf"(?! (?:such |a |valid |known |local |our |an? )*(?:{_RECIPIENT_NOUN})\b)"
)
# Up to five words, none of them a noun for the recipient, without a comma or full stop.
_BETWEEN: Final = rf"(?: (?!(?:{_RECIPIENT_NOUN}) )[^\s,.;?!]{{1,64}}){{0,5}}?"
_BEFORE: Final = (
    r"(?:unknown|invalid|bad|unauthori[sz]ed|forged|fake|unverified|rejected|blocked|banned|refused|missing"
    r"|unresolvable|unroute?able|bogus|spoofed|null|empty|wrong|illegal|malformed|nonexistent|no such|no)"
)
_OURS_REFUSED: Final = (
    rf" (?:{_OURS}){_BETWEEN} {_REFUSED} | {_BEFORE} (?:{_OURS}) | verif\w{{1,8}}(?: of)? (?:the )?sender "
    r"| (?:tried to verify|while verifying) <> "
    # `Return-Path <us@example.org>: no such user`; `sender is not a valid user`
    rf"| (?:{_OURS}) <> : | (?:{_OURS}){_BETWEEN} (?:is|was) (?:not|no|an? (?:unknown|invalid)) "
)
_PERHAPS_OURS_REFUSED: Final = rf" (?:{_PERHAPS_OURS}){_BETWEEN} {_REFUSED} | {_BEFORE} (?:{_PERHAPS_OURS}) "
_OURS_NAMED: Final = rf" (?:{_OURS}) "
# A clause that only quotes: `; sender <us@example.org>`, `. Your IP: 192.0.2.1`, `mail from <us> to <them>`.
_QUOTED: Final = (
    rf"(?:^|(?<= [,;.!?:(])) (?:(?:{_OURS}|{_PERHAPS_OURS})(?: :)?(?: <>| #)+ ?){{1,3}}(?=[,;.!?)]|$)"
    r"|(?<= )(?:mail|message) from <> to <> "
)


# What follows also counts beside "no such user". A host can refuse or be refused: `host mx.example.org
# rejected <ana@example.org>` is about the recipient, `host mail.example.org rejected` about us.
_SENDING_SIDE: Final = (
    r"ip(?: address)?|client(?: (?:host ?name|host|ip|address|name))?|connections? from|mail from|author|peer"
    r"|remote (?:ip|host|server|address)|(?:mail )?(?:host|server|relay|mta)"
)
_NAME: Final = (
    rf"(?: :)?(?: (?!(?:{_RECIPIENT_NOUN}|said|says|replied|responded) )[^\s,;.?!:()]{{1,64}}){{0,7}}?"
    r"(?: [:)])?"
)
_NOT_WELCOME: Final = (
    r"(?:(?:is|was|are|has been|access) )*(?:disallowed|forbidden|prohibited|banned|black ?listed"
    r"|not (?:allowed|authori[sz]ed|permitted|accepted|acceptable|welcome|trusted|approved)"
    r"|block ?listed|(?<!not )listed|untrusted|may not|must not|(?:cannot|can't|could not|couldn't) be)"
)
_TURNED_AWAY: Final = (
    r"(?:(?:(?:is|was|are|has been) )+|access )(?:rejected|refused|blocked|denied|restricted)"
    r"|(?:rejected|refused|blocked|denied)"
    rf"(?! (?:<>|the|this|it|your|our|my|all|message|mail|delivery|address|command|to|connection) )"
    rf"(?! (?:{_RECIPIENT_NOUN}) (?!unknown|not|does|doesn't|is|unavailable|full|inactive|disabled))"
)
_REFUSED_ANYWAY: Final = (
    rf" (?:{_OURS}|{_SENDING_SIDE}){_NAME} (?:{_NOT_WELCOME}) "
    rf"| (?:{_OURS}){_NAME} (?:{_TURNED_AWAY}|fail(?:s|ed|ure)|required|suspended|disabled|locked|expired) "
    # `message from ip 192.0.2.1 rejected: user unknown` refuses the message.
    rf"|(?<! message from)(?<! email from) (?:{_SENDING_SIDE}){_NAME} (?:{_TURNED_AWAY}) "
    # Nobody needs permission to be written to.
    r"| (?:not (?:been )?(?:authori[sz]ed|authenticated|logged in)|unauthori[sz]ed|unauthenticated"
    r"|not (?:allowed|permitted|enabled|configured|activated|licensed) (?:to|for|from)"
    r" (?:send|sending|relay|relaying|submit|submission|connect|use)"
    r"|(?:may|must) not (?:send|relay|connect)) "
    # Exim and milters ask another server about our address and quote its answer.
    r"| call ?(?:out|back) | called : (?:# )?sent : "
    r"|(?<! recipient) verif(?:y|ication)(?: failed| failure)?(?: for| of)? <> "
)


def refuses_us(words: Words, *, names_recipient: bool) -> bool:
    """Return whether the text refuses something of ours.

    `names_recipient` means that the text also says "no such user"; then a noun that may only be a quote
    does not count.
    """
    clauses = words.clauses
    if _found(_QUOTED, clauses):
        clauses = _compiled(_QUOTED).sub(" ", clauses)
    if _found(_OURS_REFUSED, clauses) or _found(_REFUSED_ANYWAY, clauses):
        return True
    if names_recipient:
        return False
    return _found(_PERHAPS_OURS_REFUSED, clauses) or _found(_OURS_NAMED, clauses)


def _found(pattern: str, clauses: str) -> bool:
    return _compiled(pattern).search(clauses) is not None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Compile a pattern when it is first needed: together they would slow down the start of every command."""
    return re.compile(pattern)
