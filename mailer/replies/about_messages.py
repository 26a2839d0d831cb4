"""Replies about this message: its size, its content, the headers, and rules that it broke."""

from __future__ import annotations

from typing import Final

from mailer.replies.rules import Rule
from mailer.replies.verdict import BounceClass as B

TOO_LARGE: Final = Rule(B.MESSAGE_TOO_LARGE, (
    "recipsizelimit", "exeeded the maximum size", "larger than*accept", "message too big",
    "message too large", "message is too big", "message is too large", "mail too large", "size exceeds",
    "exceeds*size", "size limit", "size limits", "message length exceeds", "maximum message size",
    "maximum email size exceeded", "exceeded maximum size", "exceeded message size",
    "message size limit*", "exceeds*limit of", "message file too big", "too large to send",
    "larger than the maximum", "larger than*allowed", "larger than the current system limit",
    "max message size", "exceed*maximum*size", "exceeds*maximum*size", "message was too large",
    "body too large", "mail size", "messages larger than", "exceed*size", "too big",
    "line limit exceeded", "size*exceeded", "exceeded mailsize limit", "message is too long",
    "attachment is too long",
))  # fmt: skip

CONTENT: Final = Rule(B.CONTENT, (
    "suspicious url", "suspicious link", "probability of spam", "spam probability",
    "message filtered please see", "message filtered refer to", "mime complexity", "too many received",
    "containing images", "reject id", "uribl policy", "spam like", "bulk advertising",
    "our system has detected that this message", "this message is suspicious", "related to content",
    "nature of the content", "spam refused", "spam blocked", "spam complaints", "banned content",
    "spambouncer", "this message scored", "drbl imedia", "help spam", "spam list", "attachment*",
    "virus", "viruses", "malware", "infected", "trojan", "worm", "looks like spam", "spam message",
    "message*spam", "spam detected", "detected as spam", "identified as spam", "classified as spam",
    "considered spam", "considered*spam", "consider*spam", "marked as spam", "scored as spam",
    "spam score", "spam content", "spam*rejected", "rejected*spam", "rejected*mcspamsignature",
    "as spam", "as unsolicited", "unsolicited bulk", "unsolicited", "spamassassin", "is spam",
    "spam filter", "spam classification", "appears to be spam", "high spam", "spam points",
    "blocked for spam*", "suspected spam", "probable spam", "suspicion of spam", "flagged as spam",
    "spam denied", "dt spm", "spam url", "spam is embedded", "junk mail", "bulk email", "bulk mail",
    "phishing", "message content rejected", "content rejected", "content reject", "content*rejected",
    "rejected*content", "content filter", "content violation", "content*blocked", "content policy",
    "message filtered as", "black*url", "blacklisted*url", "url in message", "improper use of 8 bit",
    "headers too large", "header too large", "header size", "message header size", "bare lf",
    "bare newline", "banned file", "charset", "unacceptable content", "8 bit", "malformed message",
    "header*rejected", "bodytype", "data format error", "forbidden content", "prohibited content",
    "contains*blocked", "message was rejected*antispam", "anti spam", "antispam", "mail content denied",
    "cyren", "pyzor", "rspamd", "conversion*required", "conversion*prohibited", "undesirable",
    "obscene", "keyword*", "not rfc 2822", "html tag", "invalid header", "from header", "missing from",
    "date header", "same size mails", "disallowed header", "spam",
))  # fmt: skip

# Policies and security, where neither a sender nor a recipient is named.
SECURITY: Final = Rule(B.POLICY_REJECT, (
    "message not allowed", "does not support tls", "not support tls", "non member", "members only",
    "closed mailing list", "organizational settings", "low priority", "mass mailer",
    "illegal attachment", "authentication credentials", "verification failure", "not rfc 5322",
    "rfc 5322*compliant", "rfcmessagenoncompliant", "multiple addresses in", "header are not accepted",
    "header error", "tls required", "google groups", "groups google com", "googlegroups",
    "network not allowed", "protocol violation", "resolver rst authrequired",
    "resolver rst sendernotauth*", "resolver rst*", "envelope blocked", "envelope rejected",
    "sendernotauthenticated*", "smtp relay error", "host network", "potential security issue",
    "presents a potential", "security issue", "security policy", "security policies",
    "security reasons", "for policy reasons", "local policy", "policy violation", "policy violations",
    "policy*reject", "policy*rejection", "rejected*policy", "rejected*policies", "due to policy",
    "by policy", "policy reason*", "policy error", "policy restrictions", "email policy",
    "mailpolicy violation", "administrative prohibition", "administratively",
    "prohibited by administrator", "policy that prohibits", "unauthenticated sender*",
    "authentication required", "authentication failed", "authentication failure",
    "sender not authenticated", "must authenticate", "sasl", "must issue a starttls", "starttls",
    "tls*required", "tls version", "encryption*required", "encryption needed", "requires encryption",
    "certificate", "cryptograph*", "not authorized", "not permitted", "permission denied",
    "you are not allowed", "not allowed to post", "not a member", "not subscribed", "moderated",
    "permission to post", "posting*denied", "executable files", "rejected by*rule", "rule imposed",
    "restricted", "restrictedto*", "you have been*blacklisted", "an address that has been blacklisted",
    "sender*blacklist", "denied by*user", "access denied", "access to*denied", "forbidden",
    "rfc compliance", "rfc compliant", "not rfc*compliant", "rfc*violat*", "not compliant",
    "does not comply",
))  # fmt: skip
