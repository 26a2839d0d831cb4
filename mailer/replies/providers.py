"""Replies that mean something special at one provider.

The first rule that holds counts. Each group names where the provider documents its replies.
"""

from __future__ import annotations

from typing import Final

from mailer.replies.codes import DAY, HOUR
from mailer.replies.rules import Rule
from mailer.replies.verdict import BounceClass as B
from mailer.replies.verdict import Fault
from mailer.replies.verdict import ReplyClass as R

# "Email non-delivery reports and SMTP errors in Exchange Online", learn.microsoft.com
MICROSOFT: Final = (
    # Barracuda passes the reply on and puts its own words before the status.
    Rule(B.INVALID_MAILBOX, ("5 4 1*recipient address rejected access denied",), action=R.HARD),
    Rule(B.FILTERED, ("customer block list",), "7.513", action=R.PERMANENT),
    Rule(B.RATE_LIMITED, ("organization queue quota",), action=R.RATE, retry_after_seconds=HOUR),
    Rule(B.RATE_LIMITED, status="2.121-2.122", action=R.RATE, retry_after_seconds=HOUR),
    Rule(B.RATE_LIMITED, status="1.90", action=R.RATE, retry_after_seconds=HOUR, fault=Fault.OURS),
    Rule(B.POLICY_REJECT, status="2.252", action=R.CONFIG, fault=Fault.OURS),  # SendAsDenied
    Rule(B.POLICY_REJECT, status="7.57", action=R.CONFIG, fault=Fault.OURS),  # not authenticated
    Rule(B.POLICY_REJECT, status="7.60", action=R.CONFIG, fault=Fault.OURS),  # no permission to send as
    Rule(B.POLICY_REJECT, status="7.64", action=R.CONFIG, fault=Fault.OURS),  # relay access denied
    Rule(B.FILTERED, status="7.124", action=R.PERMANENT),  # sender not in the allowed-senders list
    Rule(B.FILTERED, status="7.129-7.136", action=R.PERMANENT),  # only members or colleagues may write
    # Google uses 5.7.32 as well; Microsoft's numbers from 321 on are about the receiver's TLS and DANE.
    Rule(B.NETWORK, status="7.321-7.325", action=R.PERMANENT),
    Rule(B.NETWORK, status="4.312", action=R.TEMPORARY),
    Rule(B.NETWORK, status="4.317-4.318"),
    Rule(B.POLICY_REJECT, status="7.501-7.503", fault=Fault.OURS),  # banned sender, spam abuse detected
    Rule(B.INVALID_MAILBOX, ("recipient address rejected",), "7.504", action=R.HARD),
    Rule(B.FILTERED, status="7.504", codes=(550, 554), action=R.PERMANENT),
    Rule(B.FILTERED, status="7.505", codes=(550, 554), action=R.PERMANENT),  # banned recipient
    Rule(B.REPUTATION_BLOCK, status="7.506", codes=(550, 554), action=R.CONFIG),  # bad HELO
    Rule(B.FILTERED, status="7.507", codes=(550, 554), action=R.PERMANENT),  # blocked by the recipient
    Rule(B.RATE_LIMITED, status="7.508", action=R.RATE, retry_after_seconds=HOUR),
    Rule(B.AUTH_FAILURE, status="7.509", action=R.AUTH),  # DMARC
    Rule(B.NETWORK, status="7.510", codes=(550, 554)),  # takes no mail over IPv6
    Rule(B.REPUTATION_BLOCK, status="7.511", action=R.REPUTATION),
    Rule(B.POLICY_REJECT, status="7.512", action=R.CONFIG, fault=Fault.OURS),  # no valid From
    Rule(B.REPUTATION_BLOCK, status="7.513", codes=(550, 554)),
    Rule(B.POLICY_REJECT, status="7.515", action=R.AUTH),  # bulk sender's authentication
    Rule(B.REPUTATION_BLOCK, status="7.606-7.649", action=R.REPUTATION),
    Rule(B.REPUTATION_BLOCK, status="7.650", action=R.RATE, retry_after_seconds=HOUR),
    Rule(B.RATE_LIMITED, status="7.500-7.699", action=R.RATE, retry_after_seconds=HOUR),
    Rule(B.POLICY_REJECT, status="7.703", action=R.PERMANENT, fault=Fault.OURS),  # our own block list
    Rule(B.REPUTATION_BLOCK, ("traffic not accepted from this ip",), action=R.REPUTATION),
    Rule(B.TRANSIENT_SYSTEM, ("agent busy",), "7.700"),
    Rule(B.POLICY_REJECT, status="7.700-7.750", action=R.CONFIG, fault=Fault.OURS),  # the tenant's account
    Rule(B.REPUTATION_BLOCK, status="7.850-7.899", action=R.RATE, retry_after_seconds=HOUR),
    Rule(B.FILTERED, status="7.900-7.999", action=R.PERMANENT),  # a transport rule of the organization
    Rule(B.REPUTATION_BLOCK, ("s3140", "s3150", "s8002"), action=R.REPUTATION),
    Rule(B.INVALID_MAILBOX, ("mailbox unavailable",), "5.0", (550,), action=R.HARD),
    # Directory-based edge blocking. EOP says "all recipients" in answer to DATA.
    Rule(
        B.INVALID_MAILBOX,
        ("recipient address rejected access denied", "recipient addresses rejected access denied"),
        "4.1",
        action=R.HARD,
        after_body=True,
    ),
    # Exchange without a recipient filter looks the recipient up after DATA.
    Rule(
        B.INVALID_MAILBOX,
        ("recipientnotfound", "recipnotfound", "exrecipnotfound", "not found by smtp address lookup"),
        action=R.HARD,
        after_body=True,
    ),
)

# "Gmail SMTP errors and codes", support.google.com/a/answer/3726730
GOOGLE: Final = (
    Rule(
        B.RATE_LIMITED,
        ("per transaction exceeded", "per transaction is unsupported", "separate transaction"),
        action=R.RATE,
    ),
    Rule(B.MAILBOX_FULL, ("out of storage*inactive",), action=R.HARD, after_body=True),
    Rule(
        B.MAILBOX_DISABLED,
        ("disableduser", "that you tried to reach is inactive", "that you tried to reach is disabled"),
        "2.1",
        action=R.HARD,
        after_body=True,
    ),
    Rule(
        B.RATE_LIMITED,
        ("at a rate that prevents", "too quickly", "at too great a rate"),
        "2.1",
        action=R.RATE,
        retry_after_seconds=HOUR,
    ),
    Rule(
        B.RATE_LIMITED,
        ("smtp relay limit", "sending quota", "sending limit*"),
        "4.5",
        action=R.RATE,
        retry_after_seconds=HOUR,
        fault=Fault.OURS,
    ),
    Rule(
        B.RATE_LIMITED,
        ("too many recipients for this sender",),
        "5.3",
        action=R.RATE,
        retry_after_seconds=HOUR,
        fault=Fault.OURS,
    ),
    Rule(
        B.PROTOCOL,
        ("same message id", "duplicate message id", "repeated message id"),
        "7.28",
        action=R.CONFIG,
    ),
    Rule(
        B.REPUTATION_BLOCK,
        (
            "dkim domain",
            "spf domain",
            "url domain",
            "originating from your dkim",
            "originating from your spf",
            "that include your url",
            "containing your url",
        ),
        "7.28",
        action=R.REPUTATION,
    ),
    Rule(B.RATE_LIMITED, status="7.28", action=R.RATE, retry_after_seconds=HOUR),
    Rule(B.RATE_LIMITED, ("unusual rate of unsolicited",), action=R.RATE, retry_after_seconds=HOUR),
    Rule(B.AUTH_FAILURE, status="7.26", action=R.AUTH),
    Rule(B.AUTH_FAILURE, ("spf",), "7.27", action=R.AUTH),  # not RFC 7505's null MX
    Rule(B.AUTH_FAILURE, status="7.30-7.32", action=R.AUTH),
    Rule(B.AUTH_FAILURE, status="7.40", action=R.AUTH),
    Rule(B.REPUTATION_BLOCK, ("ptr", "reverse dns", "does not have a"), "7.23", action=R.CONFIG),
    Rule(B.REPUTATION_BLOCK, status="7.25", action=R.CONFIG),  # PTR
    Rule(B.POLICY_REJECT, status="7.29", action=R.CONFIG, fault=Fault.OURS),  # no TLS
    Rule(B.REPUTATION_BLOCK, ("very low reputation", "low reputation of"), action=R.REPUTATION),
    Rule(B.CONTENT, ("likely unsolicited", "likely suspicious", "due to spam classification"), action=R.SPAM),
    Rule(B.POLICY_REJECT, ("the user or domain that you are sending to*policy",), action=R.PERMANENT),
    Rule(B.REPUTATION_BLOCK, ("the ip you're using to send",), action=R.REPUTATION),
    # The lookup may succeed another day.
    Rule(
        B.NETWORK,
        ("dns type*responded with code nxdomain", "dns type*had no relevant answers"),
        action=R.TEMPORARY,
    ),
    Rule(B.FILTERED, ("state 17", "state 18"), action=R.PERMANENT),
)

# senders.yahooinc.com/smtp-error-codes; AOL, Verizon, AT&T and Comcast share these servers.
YAHOO: Final = (
    Rule(
        B.MAILBOX_DISABLED,
        ("mailbox is disabled*554 30", "554 30*mailbox is disabled"),
        action=R.HARD,
        after_body=True,
    ),
    Rule(
        B.INVALID_MAILBOX,
        (
            "delivery error dd*doesn't have a",
            "delivery error dd*does not have a",
            "delivery error dd*no longer valid",
            "delivery error dd*discontinued",
            "delivery error dd*not have an account",
        ),
        action=R.HARD,
        after_body=True,
    ),
    Rule(
        B.INVALID_MAILBOX,
        ("account*account", "not found"),
        codes=(552,),
        provider="yahoo",
        action=R.HARD,
        after_body=True,
    ),
    Rule(B.INVALID_MAILBOX, ("mailbox not found",), provider="yahoodns", action=R.HARD, after_body=True),
    Rule(B.REPUTATION_BLOCK, ("tss07", "bl21", "bl23", "permanently deferred"), action=R.REPUTATION),
    Rule(
        B.POLICY_REJECT,
        ("tss*", "unexpected volume or user complaints"),
        provider="yahoodns",
        action=R.RATE,
        retry_after_seconds=2 * HOUR,
    ),
    Rule(
        B.REPUTATION_BLOCK,
        ("tss*", "unexpected volume or user complaints"),
        action=R.RATE,
        retry_after_seconds=2 * HOUR,
    ),
    Rule(B.CONTENT, ("ph01",), action=R.SPAM),
    Rule(B.POLICY_REJECT, ("policy reasons",), "7.9", action=R.AUTH),  # DMARC or DKIM
    Rule(B.AUTH_FAILURE, status="7.9", provider="yahoodns", action=R.AUTH),
    Rule(B.POLICY_REJECT, ("unresolvable*from domain",), action=R.CONFIG, fault=Fault.OURS),
    Rule(B.POLICY_REJECT, ("action not taken",), codes=(550,), provider="yahoodns"),
)

# postmaster.gmx.net and postmaster.web.de, "Error messages"
UNITED_INTERNET: Final = (
    Rule(
        B.POLICY_REJECT,
        ("mailbox unavailable*invalid dns", "invalid dns mx*resource record"),
        action=R.CONFIG,
        fault=Fault.OURS,
    ),
    Rule(
        B.POLICY_REJECT,
        ("mailbox unavailable*failure sending mail", "failure sending mail*try again"),
        action=R.PERMANENT,
        fault=Fault.OURS,
    ),
    Rule(B.REPUTATION_BLOCK, ("invalid dns ptr*resource record", "bad dns ptr"), action=R.CONFIG),
    Rule(B.REPUTATION_BLOCK, ("nemesis esmtp service not available*ip address",), action=R.REPUTATION),
    Rule(B.POLICY_REJECT, ("reject due to policy",)),
)

# Receivers with a few replies of their own.
OTHERS: Final = (
    # iCloud, support.apple.com/102322: closed account; refused for our volume.
    Rule(B.INVALID_MAILBOX, ("inactive email address",), "1.1", action=R.HARD),
    # Apple's private relay for our sender that is not registered.
    Rule(B.POLICY_REJECT, ("unauthorized sender",), action=R.CONFIG, fault=Fault.OURS),
    # GoDaddy, www.godaddy.com/help/what-does-my-email-bounceback-mean-3568
    Rule(B.POLICY_REJECT, ("from domain is invalid", "ib506"), action=R.CONFIG, fault=Fault.OURS),
    # Mail.ru and QQ look recipients up after DATA.
    Rule(
        B.INVALID_MAILBOX,
        ("invalid mailbox*user not found", "may contain a non existent account"),
        action=R.HARD,
        after_body=True,
    ),
    Rule(
        B.RATE_LIMITED,
        ("too many recent messages",),
        provider="comcast",
        action=R.RATE,
        retry_after_seconds=HOUR,
    ),
    # KDDI looks recipients up after DATA. When its filter refuses, it says the same without the address.
    Rule(
        B.INVALID_MAILBOX,
        ("user unknown",),
        provider="ezweb.ne.jp",
        names_address=True,
        action=R.HARD,
        after_body=True,
    ),
    Rule(
        B.INVALID_MAILBOX,
        ("user unknown",),
        provider="au.com",
        names_address=True,
        action=R.HARD,
        after_body=True,
    ),
    Rule(B.CONTENT, ("mcspamsignature*",), action=R.SPAM),  # Mimecast
    # Facebook, postmaster.facebook.com/response_codes
    Rule(B.INVALID_MAILBOX, ("rcp p1",), action=R.HARD),
    Rule(B.FILTERED, ("rcp p2", "rcp p3"), action=R.PERMANENT),
    Rule(B.REPUTATION_BLOCK, ("pol p1", "pol p2", "pol p3", "pol p4", "pol t1"), action=R.REPUTATION),
    Rule(B.CONTENT, ("pol p5", "pol p6", "pol p7", "msg p2"), action=R.SPAM),
    # MessageLabs: no such address
    Rule(B.INVALID_MAILBOX, codes=(542,), action=R.HARD),
    # Mimecast greylists with this text (docs: "Mimecast SMTP error codes").
    Rule(
        B.RATE_LIMITED,
        ("temporarily unavailable",),
        codes=(451,),
        provider="mimecast",
        action=R.GREY,
        retry_after_seconds=600.0,
    ),
    # Exchange: members only
    Rule(B.FILTERED, ("resolver rst notauthorized",), action=R.PERMANENT),
    Rule(B.NETWORK, ("not found try again",), action=R.TEMPORARY),  # Postfix: DNS does not answer
    # Titan, support.titan.email: rate limits that read like full mailboxes
    Rule(
        B.RATE_LIMITED,
        ("recipient quota exceeded", "domain hourly quota exceeded"),
        action=R.RATE,
        retry_after_seconds=HOUR,
    ),
    # Cisco IronPort: not in the recipient access table
    Rule(B.INVALID_MAILBOX, ("5 1 0 address rejected",), codes=(550,), action=R.HARD),
    # Cisco IronPort: about the connection, at every command
    Rule(B.REPUTATION_BLOCK, ("your access to*rejected",), action=R.REPUTATION),
    # sina.com
    Rule(B.RATE_LIMITED, ("too many same size mails",), action=R.SPAM),
)

# Sendmail says this about the recipient's domain, with the status for the sender's (RFC 7505).
SENDMAIL_NULL_MX: Final = Rule(B.INVALID_DOMAIN, ("host does not accept mail",), "7.27", action=R.HARD)

# Standards, and wordings that many receivers share.
COMMON: Final = (
    SENDMAIL_NULL_MX,
    Rule(
        B.INVALID_DOMAIN,
        (
            "host does not accept mail",
            "domain does not accept mail",
            "domain*does not accept mail",
            "null mx",
            "nullmx",
        ),
        action=R.HARD,
    ),  # RFC 7505, whatever the status
    Rule(
        B.MAILBOX_FULL,
        ("recipient overquota", "over quota", "overquota"),
        action=R.FULL,
        retry_after_seconds=DAY,
    ),
    Rule(
        B.CONTENT, ("dbl spamhaus org", "uribl", "surbl", "spamhaus dbl"), action=R.SPAM
    ),  # a link is listed
    Rule(
        B.RATE_LIMITED,
        ("excessive volume", "too many connections", "trop de connexions"),
        action=R.RATE,
        retry_after_seconds=HOUR,
    ),
    Rule(
        B.POLICY_REJECT,
        (
            "duplicate header*",
            "multiple from",
            "message id header is missing",
            "missing message id",
            "missing a valid message id",
            "messages missing a",
            "encoded word",
            "not rfc 5322 compliant",
            "headers are not rfc compliant",
            "rfc 5322*duplicate headers",
            "multiple*headers",
        ),
        action=R.CONFIG,
        fault=Fault.OURS,
    ),
    Rule(
        B.POLICY_REJECT,
        (
            "domain of sender address*does not resolve",
            "unresolvable domain",
            "unable to resolve",
            "sender domain*not*resolve",
        ),
        codes=(450, 451),
        action=R.CONFIG,
        fault=Fault.OURS,
    ),
    Rule(B.POLICY_REJECT, codes=(530, 535, 538), action=R.CONFIG, fault=Fault.OURS),  # RFC 4954: login
    Rule(
        B.RATE_LIMITED,
        ("greylist*", "graylist*", "grey list*", "gray list*"),
        action=R.GREY,
        retry_after_seconds=600.0,
    ),
)

PROVIDERS: Final = (*UNITED_INTERNET, *MICROSOFT, *GOOGLE, *YAHOO, *OTHERS, *COMMON)
