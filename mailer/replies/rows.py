"""Replies of single providers whose code and words together mean something of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mailer.replies.verdict import BounceClass as B
from mailer.replies.verdict import ReplyClass as R


@dataclass(frozen=True, slots=True)
class Row:
    """A reply of one provider whose class the words alone would not give.

    `status` is the RFC 3463 status without its first digit, or a range `7.500-7.699`; empty matches any.
    """

    reply_class: R
    phrases: tuple[str, ...] = ()
    status: str = ""
    bounce_class: B | None = None
    """None: as the families say."""
    retry_after_seconds: float | None = None
    provider: str = ""
    codes: tuple[int, ...] = ()
    reason: str = ""


HOUR: Final = 3600.0
DAY: Final = 86_400.0

ROWS: Final = (
    Row(R.HARD, ("out of storage*inactive",), reason="Gmail: full because nobody reads it"),
    Row(
        R.HARD,
        ("disableduser", "that you tried to reach is inactive", "that you tried to reach is disabled"),
        "2.1",
        reason="Gmail: closed account",
    ),
    Row(R.HARD, ("inactive email address",), "1.1", B.INVALID_MAILBOX, reason="iCloud: closed account"),
    Row(
        R.HARD,
        ("mailbox is disabled*554.30", "554.30*mailbox is disabled", "mailbox is disabled (554"),
        reason="Yahoo: closed account",
    ),
    Row(
        R.HARD,
        ("account*account", "not found"),
        bounce_class=B.INVALID_MAILBOX,
        codes=(552,),
        provider="yahoo",
        reason="Yahoo says 552 for an unknown mailbox",
    ),
    Row(R.HARD, ("mailbox not found",), bounce_class=B.INVALID_MAILBOX, reason="Yahoo and others"),
    Row(
        R.HARD,
        ("invalid mailbox*user not found", "may contain a non-existent account"),
        bounce_class=B.INVALID_MAILBOX,
        reason="Mail.ru, QQ: recipients are looked up after DATA",
    ),
    Row(
        R.SPAM,
        ("dt:spm", "dt:sum", "mi:spb", "mi:stc"),
        bounce_class=B.CONTENT,
        reason="NetEase: spam",
    ),
    Row(
        R.RATE,
        ("rp:drc", "rp:ccl", "rp:trc", "mi:cel", "mi:ccl", "hl:icc", "hl:ifc"),
        bounce_class=B.RATE_LIMITED,
        retry_after_seconds=HOUR,
        reason="NetEase: too much at once",
    ),
    Row(
        R.REPUTATION,
        ("dt:rbl", "wm:bli", "hl:rep", "hl:ipb", "mi:dmc"),
        bounce_class=B.REPUTATION_BLOCK,
        reason="NetEase: blocked",
    ),
    Row(
        R.HARD,
        ("delivery error: dd*doesn't have a", "delivery error: dd*does not have a"),
        bounce_class=B.INVALID_MAILBOX,
        reason="Yahoo: no account",
    ),
    Row(
        R.HARD,
        ("<>: user unknown",),
        bounce_class=B.INVALID_MAILBOX,
        provider="ezweb.ne.jp",
        reason="KDDI: a filter's refusal names no address",
    ),
    Row(
        R.TEMPORARY,
        ("dns type*responded with code nxdomain", "dns type*had no relevant answers"),
        bounce_class=B.NETWORK,
        reason="Gmail: the lookup may succeed another day",
    ),
    Row(
        R.PERMANENT, ("(state 17)", "(state 18)"), bounce_class=B.FILTERED, reason="Gmail: refused after DATA"
    ),
    Row(R.TEMPORARY, (), "4.312", B.NETWORK, reason="Microsoft 365: DNS"),
    Row(
        R.PERMANENT, ("resolver.rst.notauthorized",), bounce_class=B.FILTERED, reason="Exchange: members only"
    ),
    Row(
        R.TEMPORARY, ("not found, try again",), bounce_class=B.NETWORK, reason="Postfix: DNS does not answer"
    ),
    Row(
        R.HARD,
        ("<>: user unknown",),
        bounce_class=B.INVALID_MAILBOX,
        provider="au.com",
        reason="KDDI under its other name",
    ),
    Row(R.HARD, ("rcp-p1",), bounce_class=B.INVALID_MAILBOX, reason="Facebook"),
    Row(R.PERMANENT, ("rcp-p2", "rcp-p3"), bounce_class=B.FILTERED, reason="Facebook"),
    Row(
        R.REPUTATION,
        ("pol-p1", "pol-p2", "pol-p3", "pol-p4", "pol-t1"),
        bounce_class=B.REPUTATION_BLOCK,
        reason="Facebook",
    ),
    Row(R.SPAM, ("pol-p5", "pol-p6", "pol-p7", "msg-p2"), bounce_class=B.CONTENT, reason="Facebook"),
    Row(R.HARD, (), codes=(542,), bounce_class=B.INVALID_MAILBOX, reason="MessageLabs: no such address"),
    Row(R.HARD, ("_416", "[416]"), bounce_class=B.INVALID_MAILBOX, reason="Orange, La Poste: unknown"),
    Row(R.PERMANENT, ("_420", "_426"), bounce_class=B.MAILBOX_DISABLED, reason="Orange, La Poste: closed"),
    Row(R.SPAM, ("_506",), bounce_class=B.CONTENT, reason="Orange, La Poste: spam"),
    Row(R.TEMPORARY, ("_505",), bounce_class=B.TRANSIENT_SYSTEM, reason="Orange, La Poste: busy"),
    Row(
        R.HARD,
        ("host does not accept mail", "domain does not accept mail", "null mx", "nullmx"),
        bounce_class=B.INVALID_DOMAIN,
        reason="RFC 7505, whatever the status",
    ),
    Row(
        R.HARD,
        ("recipientnotfound", "recipnotfound", "not found by smtp address lookup"),
        bounce_class=B.INVALID_MAILBOX,
        reason="Exchange says 5.1.10 for this too",
    ),
    Row(R.HARD, ("mailbox unavailable",), "5.0", B.INVALID_MAILBOX, codes=(550,), reason="Microsoft"),
    Row(
        R.HARD,
        ("recipient address rejected: access denied",),
        "4.1",
        B.INVALID_MAILBOX,
        reason="Microsoft 365: directory-based edge blocking",
    ),
    Row(R.HARD, (), "1.10", B.INVALID_DOMAIN, reason="RFC 7505 null MX"),
    Row(
        R.RATE,
        ("at a rate that prevents", "too quickly", "at too great a rate"),
        "2.1",
        B.RATE_LIMITED,
        HOUR,
        reason="Gmail: this recipient receives too much",
    ),
    Row(
        R.FULL,
        ("recipient overquota", "ofr_417", "ofr006_417", "over quota", "overquota"),
        bounce_class=B.MAILBOX_FULL,
        retry_after_seconds=DAY,
        reason="Orange says 5.1.1 for over quota",
    ),
    Row(
        R.REPUTATION,
        ("tss07", "[bl21]", "[bl23]", "permanently deferred"),
        bounce_class=B.REPUTATION_BLOCK,
        reason="Yahoo: blocked for complaints",
    ),
    Row(
        R.RATE,
        ("[tss", "unexpected volume or user complaints"),
        bounce_class=B.POLICY_REJECT,
        retry_after_seconds=2 * HOUR,
        provider="yahoodns",
        reason="Yahoo: too fast or complained about",
    ),
    Row(
        R.RATE,
        ("[tss", "unexpected volume or user complaints"),
        bounce_class=B.REPUTATION_BLOCK,
        retry_after_seconds=2 * HOUR,
        reason="Yahoo, where the host is not named",
    ),
    Row(
        R.CONFIG,
        ("same message-id", "same message id", "duplicate message-id", "repeated message-id"),
        "7.28",
        B.PROTOCOL,
        reason="Gmail: Message-ID repeated",
    ),
    Row(
        R.REPUTATION,
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
        B.REPUTATION_BLOCK,
        reason="Gmail: unusual rate from our domain, not from our address",
    ),
    Row(R.RATE, (), "7.28", B.RATE_LIMITED, HOUR, reason="Gmail: unusual rate from our address"),
    Row(
        R.SPAM,
        ("dbl.spamhaus.org", "uribl", "surbl", "[ph01]"),
        bounce_class=B.CONTENT,
        reason="a link in this message is listed",
    ),
    Row(R.AUTH, (), "7.26", B.AUTH_FAILURE, reason="Gmail, RFC 7372: unauthenticated"),
    Row(R.AUTH, (), "7.27", B.AUTH_FAILURE, reason="Gmail: SPF"),
    Row(R.AUTH, (), "7.30", B.AUTH_FAILURE, reason="Gmail: DKIM"),
    Row(R.AUTH, (), "7.31", B.AUTH_FAILURE, reason="Gmail: DMARC"),
    Row(R.AUTH, (), "7.40", B.AUTH_FAILURE, reason="Gmail: DMARC"),
    Row(R.AUTH, (), "7.32", B.AUTH_FAILURE, reason="Gmail: From not aligned"),
    Row(R.AUTH, (), "7.509", B.AUTH_FAILURE, reason="Microsoft: DMARC reject"),
    Row(R.AUTH, (), "7.515", B.POLICY_REJECT, reason="Microsoft: bulk sender's authentication"),
    Row(R.AUTH, ("policy reasons",), "7.9", B.POLICY_REJECT, reason="Yahoo: DMARC or DKIM"),
    Row(R.AUTH, (), "7.9", reason="Yahoo: DMARC or DKIM"),
    Row(R.AUTH, (), "7.20-7.22", B.AUTH_FAILURE, reason="RFC 7372"),
    Row(R.CONFIG, ("ptr", "reverse dns", "does not have a"), "7.23", B.REPUTATION_BLOCK, reason="Gmail: PTR"),
    Row(R.CONFIG, (), "7.23", B.AUTH_FAILURE, reason="RFC 7372: SPF"),
    Row(R.CONFIG, (), "7.25", B.REPUTATION_BLOCK, reason="RFC 7372: reverse DNS"),
    Row(R.CONFIG, (), "7.29", B.POLICY_REJECT, reason="Gmail: no TLS"),
    Row(R.REPUTATION, (), "7.606-7.649", B.REPUTATION_BLOCK, reason="Microsoft: banned address"),
    Row(R.REPUTATION, (), "7.511", B.REPUTATION_BLOCK, reason="Microsoft: banned address"),
    Row(R.RATE, (), "7.650", B.REPUTATION_BLOCK, HOUR, reason="Microsoft: rate by reputation"),
    Row(R.RATE, (), "7.500-7.699", B.RATE_LIMITED, HOUR, reason="Microsoft: server busy"),
    Row(
        R.REPUTATION,
        ("s3140", "s3150", "very low reputation", "low reputation of"),
        bounce_class=B.REPUTATION_BLOCK,
        reason="Microsoft's block list, Gmail's reputation",
    ),
    Row(
        R.RATE,
        ("excessive volume", "too many connections", "trop de connexions"),
        bounce_class=B.RATE_LIMITED,
        retry_after_seconds=HOUR,
        reason="iCloud, Orange",
    ),
    Row(
        R.CONFIG,
        (
            "duplicate header",
            "multiple 'from'",
            "message-id header is missing",
            "missing message-id",
            "missing a valid message-id",
            "messages missing a",
            "encoded-word",
            "not rfc 5322 compliant",
            "rfc 5322*duplicate headers",
            "multiple*headers",
        ),
        bounce_class=B.POLICY_REJECT,
        reason="our header fields break RFC 5322",
    ),
    Row(
        R.CONFIG,
        (
            "domain of sender address*does not resolve",
            "unresolvable domain",
            "unable to resolve",
            "sender domain*not*resolve",
        ),
        bounce_class=B.POLICY_REJECT,
        codes=(450, 451),
        reason="our DNS",
    ),
    Row(
        R.CONFIG,
        (),
        codes=(530, 535),
        bounce_class=B.POLICY_REJECT,
        reason="our relay wants other credentials",
    ),
    Row(
        R.SPAM,
        ("likely unsolicited", "likely suspicious", "due to spam classification"),
        bounce_class=B.CONTENT,
        reason="Gmail",
    ),
    Row(
        R.GREY,
        ("greylist", "graylist", "grey list", "gray list", "grey-list"),
        bounce_class=B.RATE_LIMITED,
        retry_after_seconds=600.0,
        reason="the same envelope will pass",
    ),
    Row(
        R.GREY,
        ("temporarily unavailable",),
        provider="mimecast",
        retry_after_seconds=600.0,
        bounce_class=B.RATE_LIMITED,
        codes=(451,),
        reason="Mimecast greylists so",
    ),
)
"""Receivers' replies by provider, first match wins."""
