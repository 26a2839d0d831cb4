"""Replies about systems and networks: too fast, too late, unreachable, out of order, out of step."""

from __future__ import annotations

from typing import Final

from mailer.replies.rules import Rule
from mailer.replies.verdict import BounceClass as B

RATE: Final = Rule(B.RATE_LIMITED, (
    "sending rate", "too many in", "temporarily deferred*volume", "message rate", "rate exceeded",
    "exceeds*rate", "maximum connection limit", "per domain connection limit",
    "numerous attempts to deliver this", "reciplimit", "cxcnct", "cxmxrt", "cxthrt", "rate limit",
    "rate limited", "rate limiting", "rate limits", "ratelimit*", "too many connections",
    "too many concurrent", "too many recipients", "too many messages", "too many mails",
    "too many emails", "too many rcpt", "too many sessions", "too many smtp sessions",
    "too many errors from your ip", "too many recent messages", "too many errors", "too fast",
    "too frequent", "too many invalid recipients", "throttl*", "sending limit", "daily*limit",
    "hourly*limit", "hourly quota", "domain hourly quota", "recipient quota exceeded",
    "queue quota exceeded", "daily quota", "exceeded*rate", "exceeded*limit of messages",
    "exceeded permitted limits", "slow down", "maximum*connections", "connection limit",
    "connections exceeded", "excessive*connections", "excessive volume", "recipient limit",
    "recipient thread limit", "message limit", "messages per connection", "message per connection",
    "limit exceeded for", "exceeds*per hour", "exceeded*per hour", "exceeded*per day", "per hour",
    "max recipients", "max emails per hour", "unusual rate", "sending*too quickly",
    "receiving mail too quickly", "receiving mail at a rate", "received too much email",
    "received too many messages", "domain*exceeded*max", "over*hourly", "frequency limited",
    "frequency of receiving messages is limited", "connection frequency",
    "mail content denied*frequency", "try again later*too many", "exceeded the maximum number",
    "limit on the number", "number of*exceed*", "concurrent*exceeded", "please try again slower",
    "speeding", "exceeded the max*per", "out of allow rcpt",
))  # fmt: skip

EXPIRED: Final = Rule(B.EXPIRED, (
    "delivery failed*attempts", "could not deliver for the last", "host not reachable",
    "not collected after", "queue expired", "was frozen", "has been frozen", "connection timed",
    "not delivered within", "cannot send message for", "message expired", "envelope expired",
    "delivery expired", "delivery time expired", "queue too long", "in the queue too long",
    "been failing for a long time", "retry timeout exceeded", "retry time not reached",
    "retry time expired", "retry limit exceeded", "timed out", "timeout", "time out", "operation timed",
    "time expired", "too long", "giving up after", "multiple retries", "has been delayed",
    "still undelivered", "delayed for more than", "could not be delivered for more than",
    "not yet been delivered", "has not been delivered", "delayed delivery", "delivery*delayed",
    "did not accept our requests to connect", "server did not respond", "not responding",
    "did not respond", "aborted after", "could not find a gateway", "within*days", "after*days",
    "after*hours", "undeliverable for", "unable to deliver this message after", "maximum*time in queue",
    "queue lifetime", "lifetime*exceeded", "keep trying", "will be retried", "delivery attempts",
    "delivery temporarily suspended", "max retry", "maximum number of*attempts", "retries*exceeded",
    "enqueued*undeliverable", "not*reachable within", "待機", "was not reachable",
))  # fmt: skip

NETWORK: Final = Rule(B.NETWORK, (
    "tls not available", "tls is not available", "tls currently unavailable", "address family mismatch",
    "all routes to destination blocked", "maximum hop count", "dns failure", "dns failures",
    "dns query failed", "dns query error", "best preference mx", "most progress was", "bad dns lookup",
    "hop count", "mail loop*", "mail*loop", "routing loop", "loops back", "looping", "loop detected",
    "too many hops", "no route to host", "network unreachable", "network is unreachable",
    "host is unreachable", "host unreachable", "host*unreachable", "network error",
    "connection refused", "unable to connect", "could not connect", "couldn't connect",
    "cannot connect", "can't connect", "establish an smtp connection", "failed to connect",
    "unable to resolve route", "name server reply", "name service error", "dns error", "dns*lookup",
    "dns records for the destination", "lookup failure", "host lookup did not complete",
    "temporarily*resolve", "tls*failed", "tls negotiation", "tls handshake", "tls session", "ssl",
    "try reconnecting", "maximum allowed times", "bad connection", "connection broken", "socket error",
    "i o error", "name lookup failure", "no servers responded", "no hosts", "unreachable", "dnssec",
    "dane", "not connected", "remote host*down", "maximum forwarding", "temporary domain failure",
    "mta sts", "starttls not supported", "tlsa invalid", "dnssec invalid", "certificate expired",
    "certificate host mismatch",
))  # fmt: skip

# Local delivery programs, quoted by the system that ran them.
LOCAL: Final = Rule(B.TRANSIENT_SYSTEM, (
    "x unix", "loops back to myself", "it would create a mail loop",
    "loop was found in the mail exchanger", "aliasing forwarding loop broken",
    "timeout waiting for input", "there is no mdb", "can't create user output file", "bin procmail",
    "bin maildrop", "command died with status", "command failed", "command time limit", "pipe to",
    "encountered an error while being processed", "procmail", "couldn't create", "could not create",
    "mailer error", "unknown mailer error",
))  # fmt: skip

SYSTEM: Final = Rule(B.TRANSIENT_SYSTEM, (
    "system not accepting", "mailbox server offline", "server offline", "server is offline",
    "shutting down", "under maintenance", "temporarily out of order", "could not load drd",
    "transaction failed", "delivery to file forbidden", "delivery to pipe forbidden",
    "local delivery failed", "lmtp error", "resolver adr invalidinsmtp", "resolver adr ambiguous",
    "resolver fwd*", "several matches found", "storedrv", "bad interpreter", "homedir",
    "insufficient permission", "catch all", "operating system error", "command line usage",
    "system error", "mailer error", "unknown mailer error", "internal error", "server error",
    "local error", "service unavailable", "service currently unavailable",
    "service temporarily unavailable", "service not available", "service refuse*", "system full",
    "no space left", "insufficient system", "insufficient storage", "insufficient resources",
    "insufficient disk", "out of disk", "out of memory", "resources temporarily",
    "resources unavailable", "resource", "resources", "local configuration error",
    "configuration error", "command failed", "command died", "command time", "procmail",
    "child process returned", "input output error", "read only file", "queue file write", "write error",
    "cannot open", "can't open", "unable to open", "permission*file", "could not lock",
    "mailbox*locked by", "server busy", "system busy", "too busy", "not enough disk", "disk full",
    "mail system", "system not capable", "local processing", "aliasing forwarding loop",
    "problem*server", "unavailable for*maintenance", "message store", "database", "ldap",
    "storage*error", "backend", "unexpected*failure", "unexpected error", "failed to read",
    "exited with", "crash*", "returned a*status", "transient", "sorry too many clients", "interrupted",
    "can't accept messages now", "temporary lookup failure", "temporary*problem",
    "temporary local problem", "could not be processed", "unable to process",
    "mail*delivery*failed*local", "software", "not responding to*commands", "server*overload",
    "load*too high", "queue unavailable",
))  # fmt: skip

PROTOCOL: Final = Rule(B.PROTOCOL, (
    "command not recognized", "angle brackets nested", "expected word or",
    "domain missing in source routed", "syntax error", "improper sequence", "bad sequence",
    "out of sequence", "command not", "command unrecognized", "unrecognized command", "unknown command",
    "command unknown", "not implemented", "malformed address", "incorrectly constructed", "need rcpt",
    "need mail", "nested mail", "invalid command", "unimplemented", "pipelining", "smtputf8",
    "command rejected", "bad command", "bad address syntax", "sequence error", "stray newline",
    "line parse error",
))  # fmt: skip
