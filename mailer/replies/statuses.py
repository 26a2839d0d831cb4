"""The meaning of an RFC 3463 status on its own: the IANA registry of enhanced status codes as tables.

Statuses are written without their first digit. `SENDER` overrides the text; the text overrides the rest.
"""

from __future__ import annotations

from typing import Final

from mailer.replies.verdict import BounceClass as B

SENDER: Final = {
    "1.7": B.POLICY_REJECT,  # RFC 3463: bad sender's mailbox address syntax
    "1.8": B.POLICY_REJECT,  # RFC 3463: bad sender's system address
    "7.20": B.AUTH_FAILURE,  # RFC 7372: no passing DKIM signature found
    "7.21": B.AUTH_FAILURE,  # RFC 7372: no acceptable DKIM signature found
    "7.22": B.AUTH_FAILURE,  # RFC 7372: no valid author-matched DKIM signature found
    "7.23": B.AUTH_FAILURE,  # RFC 7372: SPF validation failed
    "7.24": B.AUTH_FAILURE,  # RFC 7372: SPF validation error
    "7.25": B.REPUTATION_BLOCK,  # RFC 7372: reverse DNS validation failed
    "7.26": B.AUTH_FAILURE,  # RFC 7372: multiple authentication checks failed
    "7.27": B.AUTH_FAILURE,  # RFC 7505: sender address has null MX; Gmail: SPF
}
"""Statuses that the registry defines as about the sender: they override any text."""

STATUS: Final = {
    "1.0": B.INVALID_MAILBOX,
    "1.1": B.INVALID_MAILBOX,
    "1.2": B.INVALID_DOMAIN,
    "1.3": B.INVALID_MAILBOX,
    "1.4": B.FILTERED,
    "1.5": B.UNDETERMINED,
    "1.6": B.MOVED,
    "1.7": B.POLICY_REJECT,
    "1.8": B.POLICY_REJECT,
    "1.9": B.TRANSIENT_SYSTEM,
    "1.10": B.INVALID_DOMAIN,  # RFC 7505: recipient address has null MX
    "1.351": B.INVALID_MAILBOX,  # Microsoft 365
    "2.0": B.FILTERED,
    "2.1": B.FILTERED,
    "2.2": B.MAILBOX_FULL,
    "2.3": B.MESSAGE_TOO_LARGE,
    "2.4": B.FILTERED,
    "3.0": B.TRANSIENT_SYSTEM,
    "3.1": B.TRANSIENT_SYSTEM,
    "3.2": B.INVALID_DOMAIN,
    "3.3": B.TRANSIENT_SYSTEM,
    "3.4": B.MESSAGE_TOO_LARGE,
    "3.5": B.TRANSIENT_SYSTEM,
    "4.0": B.NETWORK,
    "4.1": B.EXPIRED,
    "4.2": B.EXPIRED,
    "4.3": B.TRANSIENT_SYSTEM,
    "4.4": B.INVALID_DOMAIN,
    "4.5": B.TRANSIENT_SYSTEM,
    "4.6": B.NETWORK,
    "4.7": B.EXPIRED,
    "4.14": B.NETWORK,  # Microsoft 365: loop
    "4.300": B.EXPIRED,  # Microsoft 365
    "4.310": B.INVALID_DOMAIN,  # Microsoft 365: the DNS domain does not exist
    "4.311": B.NETWORK,
    "4.312": B.NETWORK,
    "4.316": B.NETWORK,
    "5.0": B.PROTOCOL,
    "5.1": B.PROTOCOL,
    "5.2": B.PROTOCOL,
    "5.3": B.RATE_LIMITED,
    "5.4": B.PROTOCOL,
    "5.5": B.PROTOCOL,
    "7.7": B.CONTENT,
    "7.13": B.MAILBOX_DISABLED,
    "7.16": B.MESSAGE_TOO_LARGE,  # RFC 6710
    "7.17": B.INVALID_MAILBOX,  # RFC 7293: the mailbox has another owner now
    "7.18": B.INVALID_DOMAIN,  # RFC 7293: the domain has another owner now
    "7.19": B.TRANSIENT_SYSTEM,
    "7.28": B.RATE_LIMITED,
    "7.30": B.AUTH_FAILURE,
}
"""Class by status, where the text says nothing. `SENDER` is looked up first."""

SUBJECT: Final = {
    "1": B.INVALID_MAILBOX,
    "2": B.FILTERED,
    "3": B.TRANSIENT_SYSTEM,
    "4": B.NETWORK,
    "5": B.PROTOCOL,
    "6": B.CONTENT,
    "7": B.POLICY_REJECT,
}
"""Class by the status's middle number, where the detail is not in the registry."""

TEMPORARY: Final = {"7.1": B.REPUTATION_BLOCK, "2.1": B.REPUTATION_BLOCK}
"""Class by status, for a 4yz without a meaningful text."""
