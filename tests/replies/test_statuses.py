"""The registry of enhanced status codes (RFC 3463 and what was added to it), status by status."""

from __future__ import annotations

import pytest

from mailer.replies import BounceClass as B
from mailer.replies import judge

REGISTRY = {
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
    "1.10": B.INVALID_DOMAIN,
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
    "3.6": B.TRANSIENT_SYSTEM,
    "4.0": B.NETWORK,
    "4.1": B.EXPIRED,
    "4.2": B.EXPIRED,
    "4.3": B.TRANSIENT_SYSTEM,
    "4.4": B.INVALID_DOMAIN,
    "4.5": B.TRANSIENT_SYSTEM,
    "4.6": B.NETWORK,
    "4.7": B.EXPIRED,
    "5.0": B.PROTOCOL,
    "5.1": B.PROTOCOL,
    "5.2": B.PROTOCOL,
    "5.3": B.RATE_LIMITED,
    "5.4": B.PROTOCOL,
    "5.5": B.PROTOCOL,
    "5.6": B.PROTOCOL,
    "6.0": B.CONTENT,
    "6.1": B.CONTENT,
    "6.2": B.CONTENT,
    "6.3": B.CONTENT,
    "6.4": B.CONTENT,
    "6.5": B.CONTENT,
    "6.6": B.CONTENT,
    "6.7": B.CONTENT,
    "6.8": B.CONTENT,
    "6.9": B.CONTENT,
    "6.10": B.CONTENT,
    "7.0": B.POLICY_REJECT,
    "7.1": B.POLICY_REJECT,
    "7.2": B.POLICY_REJECT,
    "7.3": B.POLICY_REJECT,
    "7.4": B.POLICY_REJECT,
    "7.5": B.POLICY_REJECT,
    "7.6": B.POLICY_REJECT,
    "7.7": B.CONTENT,
    "7.8": B.POLICY_REJECT,
    "7.9": B.POLICY_REJECT,
    "7.10": B.POLICY_REJECT,
    "7.11": B.POLICY_REJECT,
    "7.12": B.POLICY_REJECT,
    "7.13": B.MAILBOX_DISABLED,
    "7.14": B.POLICY_REJECT,
    "7.15": B.POLICY_REJECT,
    "7.16": B.MESSAGE_TOO_LARGE,
    "7.17": B.INVALID_MAILBOX,
    "7.18": B.INVALID_DOMAIN,
    "7.19": B.TRANSIENT_SYSTEM,
    "7.20": B.AUTH_FAILURE,
    "7.21": B.AUTH_FAILURE,
    "7.22": B.AUTH_FAILURE,
    "7.23": B.AUTH_FAILURE,
    "7.24": B.AUTH_FAILURE,
    "7.25": B.REPUTATION_BLOCK,
    "7.26": B.AUTH_FAILURE,
    "7.27": B.AUTH_FAILURE,
    "7.28": B.RATE_LIMITED,
    "7.29": B.POLICY_REJECT,
    "7.30": B.AUTH_FAILURE,
}
HARD = {B.INVALID_MAILBOX, B.INVALID_DOMAIN, B.MOVED}


@pytest.mark.parametrize(("detail", "expected"), REGISTRY.items())
def test_status_alone_says_what_the_registry_says(detail: str, expected: B) -> None:
    verdict = judge(None, f"5.{detail}", "")
    assert (expected, expected in HARD) == (verdict.bounce_class, verdict.hard)


@pytest.mark.parametrize("detail", REGISTRY)
def test_transient_status_is_never_hard(detail: str) -> None:
    assert not judge(None, f"4.{detail}", "").hard
    assert judge(None, f"4.{detail}", "").again


@pytest.mark.parametrize(
    ("detail", "expected"),
    [("1.99", B.INVALID_MAILBOX), ("2.99", B.FILTERED), ("3.99", B.TRANSIENT_SYSTEM), ("4.99", B.NETWORK),
     ("5.99", B.PROTOCOL), ("6.99", B.CONTENT), ("7.99", B.POLICY_REJECT), ("9.9", B.UNDETERMINED)],
)  # fmt: skip
def test_status_not_in_the_registry_is_read_by_its_subject(detail: str, expected: B) -> None:
    assert expected == judge(None, f"5.{detail}", "").bounce_class
