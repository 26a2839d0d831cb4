"""Replies that refuse us, not the recipient: our sender, domain, HELO, account, authentication, IP address.

A receiver repeats such a reply for every recipient, often with the recipient's address in front of it, so
mistaking one for "no such user" would suppress a whole audience. The rules below recognize them by phrases;
the grammar in `ours` catches other wordings.

Sources: RFC 5321, RFC 7505, RFC 7372; the error lists of Microsoft, Google, Yahoo, GMX and web.de, Orange,
Mimecast, Zoho, Titan, sina and Amazon SES; the default texts of Postfix, Exim, Sendmail, qmail and cPanel.
"""

from __future__ import annotations

from typing import Final

from mailer.replies.rules import Rule
from mailer.replies.verdict import BounceClass as B
from mailer.replies.verdict import Fault
from mailer.replies.verdict import ReplyClass as R

# Our account at the relay has reached its quota: wait. No mailbox is full.
ACCOUNT_QUOTA: Final = Rule(B.RATE_LIMITED, (
    # Amazon SES: 454 Throttling failure
    "throttling failure", "daily message quota exceeded", "maximum sending rate exceeded",
    "daily sending quota exceeded", "sending quota", "message quota exceeded", "email quota",
    # Google Workspace: 550 5.4.5, 450 4.2.1
    "smtp relay limit exceeded", "daily user sending limit", "daily user sending quota",
    "daily limit for", "user sending limit",
    # Microsoft 365: 5.2.2, 5.1.90
    "submission quota exceeded", "reached your daily limit", "recipient rate limit",
    "exceeded your*quota", "exceeded your*limit", "exceeded the sending limit", "your sending limit",
    "your quota*exceeded", "your plan*exceeded", "your plan limit", "sending limit exceeded",
    "sending limits", "account*quota exceeded", "account*sending limit", "account*hourly limit",
    "account*daily limit", "account has exceeded", "credits expired", "credits exhausted", "no credits",
    "not enough credits",
    # cPanel
    "exceeded the max emails per hour", "exceeded the max defers and failures per hour", "relay quota",
    "sender over quota", "sender quota", "sender exceeded", "sender has exceeded",
    "too many recipients for this sender", "outbound thread limit",
), action=R.RATE, fault=Fault.OURS)  # fmt: skip

_ACCOUNTS: Final = (
    "account", "user account", "email account", "mailbox", "user", "subscription", "license", "plan",
    "service", "access", "organization", "tenant", "domain",
)  # fmt: skip
_CLOSED: Final = (
    "suspended", "disabled", "blocked", "locked", "closed", "expired", "terminated", "deactivated",
    "inactive", "not active", "restricted", "not allowed", "not permitted", "not authorized", "frozen",
    "on hold", "banned", "limited", "unpaid", "under review", "over quota", "full",
)  # fmt: skip

# Our account at the relay is closed, unknown or not allowed to send.
ACCOUNT: Final = Rule(B.POLICY_REJECT, (
    *(f"your {thing}*{state}" for thing in _ACCOUNTS for state in _CLOSED),
    "sender account", "sending account", "sending email account", "sender mailbox*disabled",
    "sender*suspended", "sender*disabled", "sender*locked", "sender*deactivated", "sender*inactive",
    # cPanel, Plesk, Mail.ru, Amazon SES, Mailgun, SparkPost
    "outgoing mail*suspended", "outgoing mail*suspension", "outgoing mail*disabled",
    "outgoing email*disabled", "outbound mail*suspended", "outbound mail*disabled", "outbound mail*blocked",
    "outbounds disabled", "sending*paused", "sending*suspended",
    "message sending for this account is disabled", "sending for this account",
    "sending*has been disabled", "sending*is disabled", "mail sending*disabled", "smtp account",
    "account not subscribed to ses", "account is not allowed to send",
    "account is not authorized to send", "account not allowed to send",
    "account is disabled for sending", "account*blocked from sending", "user*blocked from sending",
    "user*not allowed to send", "user*not authorized to send", "user*restricted from sending",
    "blocked from sending", "restricted from sending", "not enabled for sending",
    "not configured for sending", "not activated for sending", "feature not enabled",
    "account is disabled please contact", "account has been blocked due to",
    "account blocked due to abuse", "suspended due to abuse", "suspended for abuse",
    "suspended for spam", "access to smtp", "smtp access",
    # Microsoft 365: 5.1.8, 5.7.501-503, 5.7.705, 5.7.708, 5.7.750
    "bad outbound sender", "tenant has exceeded threshold", "unregistered domains",
    "unprovisioned domains", "client blocked from sending",
), action=R.CONFIG, fault=Fault.OURS)  # fmt: skip

# The relay requires a login or a different one, or does not relay for us.
LOGIN: Final = Rule(B.POLICY_REJECT, (
    "smtp auth required", "smtp authentication required", "smtp authentication is required",
    "must authenticate", "you must be authenticated", "authenticate first", "please authenticate",
    "authentication is required", "auth first", "need auth", "needs auth", "authentication needed",
    "requires authentication", "requires smtp auth", "authentication credentials invalid",
    "invalid credentials for relay", "username and password not accepted", "bad auth", "auth error",
    "incorrect authentication data", "invalid login", "login failed", "login incorrect",
    "too much fail authentication", "authentication unsuccessful", "sasl*failed", "sasl login",
    "submitter failed", "client not authenticated", "client was not authenticated", "anonymous mail",
    "not logged in", "please log in", "pop before smtp", "check your mail before sending",
), action=R.CONFIG, fault=Fault.OURS)  # fmt: skip

RELAY: Final = Rule(B.POLICY_REJECT, (
    "was not authenticated", "client*not authenticated", "not a gateway", "as a relay",
    "not an open relay", "specified domain is not allowed", "we don't handle mail",
    "to a non local e mail address", "relaying denied", "relay denied", "relay access denied",
    "relaying disallowed", "relaying*prohibited", "no relaying", "relaying not allowed",
    "relay not permitted", "relaying not permitted", "relaying is not", "not permitted to relay",
    "unable to relay", "cannot relay", "can't relay", "relay operation", "relay prohibited",
    "not a relay", "we do not relay", "won't relay", "will not relay", "relaying mail to",
    "insecure mail relay", "unauthorized relay", "no relay access", "allowed to relay",
    "authorized to relay", "does not accept mail for that domain",
    "isn't in my list of allowed rcpthosts", "rcpthosts", "isn't in my*list", "not local host",
    "is not local and not an approved relay", "that domain isn't",
    "this system is not configured to relay", "relay*rejected",
    "send*from this mail server*not allowed", "mail server requires authentication",
    "mailbox unavailable or access denied", "not in my control", "relay restriction*",
    "relay*forbidden", "relay attempt*", "relay not allowed", "open relay not allowed",
    "open relay is not allowed", "relay is not allowed", "denies relay", "relay check*fail",
    "local user only", "routed address relaying", "submitted by a non local",
    # Zoho: 553 Relaying disallowed as <us>; Microsoft 365: 5.7.64 TenantAttribution
    "tenantattribution",
), action=R.CONFIG, fault=Fault.OURS)  # fmt: skip

# Our name in HELO or EHLO.
HELO: Final = Rule(B.REPUTATION_BLOCK, (
    "helo command rejected", "ehlo command rejected", "invalid helo", "bad helo", "forged helo",
    "helo*invalid", "helo*does not match", "helo*not found", "helo*rejected", "helo*refused",
    "helo*does not exist", "helo*not exist", "helo*unknown", "helo*doesn't", "helo*not resolve",
    "helo*not a", "helo*cannot", "helo*blocked", "helo*denied", "helo*mismatch", "ehlo*invalid",
    "ehlo*does not", "ehlo*rejected", "ehlo*not found", "helohost error", "helo host", "invalid ehlo",
    "bad ehlo", "helo name", "ehlo name", "need fully qualified hostname", "helo ehlo requires",
), action=R.CONFIG, fault=Fault.OURS)  # fmt: skip

# Exim, Postfix and milters call back to find out whether our sender address exists.
CALLBACK: Final = Rule(B.POLICY_REJECT, (
    "sender verify failed", "sender verify", "sender verification", "sender callout", "sender callback",
    "sender address verification", "could not verify sender", "couldn't verify sender",
    "cannot verify sender", "unable to verify sender", "could not verify your address",
    "could not complete sender verify", "callback setup failed", "callback verification",
    "callback failed", "callback*failed", "failed callback", "verification failed for",
    "unverified sender", "sender is unvalidated", "as a valid sender", "not a valid sender", "batv",
), action=R.CONFIG, fault=Fault.OURS)  # fmt: skip

# Exim uses callouts for recipients too, so the quoted reply may be about us or about them.
CALLOUT: Final = Rule(B.POLICY_REJECT, (
    "callout verification failed", "callout verification failure", "callout failed", "callout failure",
    "callout*failed", "failed callout",
), fault=Fault.UNKNOWN)  # fmt: skip

# Our envelope sender or its domain cannot be used: DNS, null MX, not ours to use.
SENDER_UNUSABLE: Final = Rule(B.POLICY_REJECT, (
    # Postfix reject_sender_login_mismatch, Google, IONOS, Microsoft 365 (5.2.252, 5.7.60), Amazon SES
    "not owned by user", "mail from not owned", "sender address is not allowed", "sendasdenied*",
    "permissions to send as", "permission to send as", "not allowed to send as", "send as denied",
    "not verified*identit*", "identit* failed the check", "email address is not verified",
    "address is not verified", "address not verified", "domain is not verified", "domain not verified",
    "sender address not validated", "unverified domain", "unverified address*sender",
    "unauthorized sender", "sender unauthorized", "sender*not authorized to",
    "sender is not authorized", "not authorized to send from", "not allowed to send from",
    "not permitted to send from", "not allowed to use*sender", "not authorized to use the domain",
    "from address*not verified", "from*does not match*account", "from address mismatch",
    "sender mismatch", "sender id mismatch", "envelope sender*mismatch", "mail address invalid",
    "mail from invalid", "fake sender",
    # DNS: Postfix, GMX and web.de, Yahoo, Exim
    "invalid dns mx or a aaaa resource record", "invalid dns mx", "domain of sender address",
    "sender address*does not exist", "sender address*domain", "sender*domain not found",
    "sender domain*not", "sender domain*doesn't", "sender domain*invalid", "sender*domain*not exist",
    "sender*domain*does not", "sender's domain*does not", "domain of sender*", "unroutable sender",
    "unrouteable sender", "dns*of sender", "sender*resolve", "sender*does not accept mail",
    "unresolvable rfc 5321 from", "unresolvable rfc 5322 from", "unresolvable*from domain",
    "from domain is invalid", "from: domain is invalid", "from domain*not resolve",
    "mailfrom domain*not", "mail from domain*not", "mail from domain*no", "mail from domain*doesn't",
    "your domain*does not", "your domain*doesn't", "your domain*not", "return path*not",
    "return path*invalid", "return path*does not", "return path*doesn't",
    # Syntax: RFC 5321, Google 5.1.7, Orange 405
    "the sender address*not a valid", "invalid sender", "sender*invalid", "bad sender", "bogus sender",
    "sender*syntax", "sender is invalid", "emetteur invalide", "expediteur invalide", "syntax*sender",
    "fully qualified*sender", "fully qualified email address required", "unsigned dsn", "null sender",
    "empty envelope", "no mail from", "error reading sender", "malformed*sender",
), action=R.CONFIG, fault=Fault.OURS)  # fmt: skip

# Our sender is refused without a reason that we could fix: often a block list of the receiver.
SENDER_REFUSED: Final = Rule(B.POLICY_REJECT, (
    "rfc 1035 violation", "pre approved", "sender was rejected", "does not accept mail from",
    "registered gateway user", "isn't on the recipient's list of senders",
    "your email address has been blacklisted", "address has been blacklisted",
    "address has been black*", "black mail address", "invalid domain see", "cxsndr",
    "sender address rejected", "sender rejected", "sender is rejected", "sender*rejected",
    "sender*denied", "mail from*rejected", "mail from*denied", "mail from*refused", "sender is blocked",
    "sender*blocked", "sender*not allowed", "sender*not found", "sender refused", "sender not allowed",
    "purported responsible address", "rejecting*sender", "returned mail not accepted",
    "bounce*not accepted", "from address*rejected", "refused mail from", "does not like sender",
    "address*sending to from", "we don't accept mail from", "doesn't like your", "backscatter",
    "you are sending to from", "denied*sender", "denies the sender", "access denied sender",
    "mail refused*your address", "from*not accepted", "sender*unacceptable", "sender*suspicious",
    "banned sender", "sender*banned", "sender*blacklisted", "blacklisted*sender", "blocked sender",
    "remote ip check error",
), fault=Fault.OURS)  # fmt: skip

# SPF, DKIM, DMARC and other proofs of who we are (RFC 7372).
AUTHENTICATION: Final = Rule(B.AUTH_FAILURE, (
    "dmarc", "spf", "by spf", "sender policy framework", "openspf", "dkim", "domainkeys",
    "authentication information", "fails to pass authentication", "fail to pass authentication",
    "unauthenticated email", "unauthenticated mail", "unauthenticated message",
    "sender is unauthenticated", "required authentication level", "authentication requirements",
    "is not allowed to send mail from", "does not pass*verification", "not pass authentication",
    "not authenticated*policy", "arc validation", "spoof*", "anti spoof*", "spoofing*not allowed",
    "authentication checks", "authentication check", "sender address*not*authorized",
    "isn't authorized to send", "not authorized to send mail for", "is not a designated",
    "is not a permitted sender", "not a permitted", "sender id", "not authorized for this domain",
    "isn't aligned", "not aligned", "alignment",
), fault=Fault.OURS)  # fmt: skip

# The name of our IP address in DNS.
REVERSE_DNS: Final = Rule(B.REPUTATION_BLOCK, (
    "reverse dns", "rdns", "ptr", "fix reverse", "reverse lookup", "reverse hostname", "reverse record",
    "dns ptr", "cannot find your hostname", "cannot find your reverse", "cannot find your host",
    "ip name lookup failed", "host lookup failed", "x host lookup failed", "dynamic ip",
    "dynamic*address", "dynamic pool", "residential", "unresolvable relay host",
    "sender host*unresolv*", "may not be mail exchanger", "hosts with dynamic ip", "dynamic zombied",
    "unknown client",
), fault=Fault.OURS)  # fmt: skip

# Block lists, by name.
LISTED: Final = Rule(B.REPUTATION_BLOCK, (
    "blackhole*", "listed in the dbl", "csi cloudmark", "cloudmark sender intelligence",
    "sender ip address rejected", "extreme bad ip profile", "not accepting mail from your ip",
    "too many spams from your ip", "rejecting open proxy", "open relay",
    "looks suspiciously like spammer", "currently sending spam",
    "your network is temporary blacklisted", "invalid ip for sending mail", "unverifyable sending ip*",
    "requires confirmation", "confirm this mail server", "abus detecte", "was dropped by remote host",
    "not accepting connections", "is in a black list", "you are sending spam", "access denied ip name",
    "a problem occurred ask your postmaster", "cxdns", "traffic not accepted from this ip",
    "will not*accept*from this ip", "spamhaus", "spamcop", "sorbs", "barracudacentral", "dnsbl*",
    "dnsrbl", "senderscore", "senderbase", "trustedsource", "proofpoint", "cdrbl", "cxbl", "reputation",
    "rbl", "ip address blacklisted", "client host*blocked", "your ip*black*", "ip*blacklisted",
    "ip*black listed", "ip address*blocked", "ip*is blocked", "ip*is block listed", "block listed",
    "banned sending ip", "weren't sent", "part of their network", "black ip", "ip is rejected",
    "ip is hangup", "invalid ip", "suspected spam ip", "local ct ip reputation",
), fault=Fault.OURS)  # fmt: skip

# Block lists, in words that also occur elsewhere.
REPUTATION: Final = Rule(B.REPUTATION_BLOCK, (
    "blacklisted by", "blacklist*", "blocklist*", "block list*", "black list*", "denylist*",
    "deny list", "blocked using", "blocked by*list", "listed at", "listed in*list", "is listed by",
    "client host blocked", "client host rejected", "connection refused by", "connections from*refused",
    "connection rejected", "connection denied", "your ip*blocked", "your ip*rejected", "your ip*denied",
    "your ip*not", "your ip address*not", "ip*banned", "ip*blocked", "ips blocked",
    "ip you're using*not authorized", "ip*not authorized", "ip*not allowed", "low reputation",
    "bad reputation", "poor reputation", "blocked see", "access denied by*ip", "banned",
    "not accepted from servers", "not accept messages from servers", "network is blocked",
    "temporarily deferred due to", "temporarily deferred*complaints", "not accepting mail from",
    "no access from mail server", "spam source", "spamming", "sent too much spam", "not welcome",
    "go away", "you are not allowed to connect", "mail server is not allowed", "not allowed to connect",
    "server*blocked", "host*blocked", "unfamiliar ip", "no smtp service", "access from ip address",
    "denied by*blacklist", "reject*mail from*isp's mail server", "use your isp",
    "use the smtp server of your isp", "connection dropped", "connection reset by peer",
    "lost connection", "connection closed*remote", "smtp access restricted", "refused by*policy*ip",
    "sender*unwanted", "too many unwanted messages", "blocked due to*spam", "spam*from your ip",
    "spam report", "domain*in*block", "blocked by*dns", "blocked for abuse", "abuse*blocked", "mx lb",
    "blocked", "esmtp not accepting", "unblock request",
), fault=Fault.OURS)  # fmt: skip
