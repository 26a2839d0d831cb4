"""Which certificates may sign notifications of SNS."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from mailer.bounces.providers.proofs import Secrets, WebhookError, amazon_authorities
from mailer.bounces.providers.requests import Request
from mailer.bounces.providers.webhooks import parse_webhook
from tests.bounces.providers.signing import (
    CA_KEY,
    LEAF,
    NOW,
    ROOT,
    RSA_KEY,
    TOPIC,
    certificate,
    signed_ses,
    sns_secrets,
)

ISSUER = "Amazon RSA 2048 M01"
DAY = timedelta(days=1)


def refusal(headers: dict[str, str], body: bytes, secrets: Secrets) -> int:
    with pytest.raises(WebhookError) as refused:
        parse_webhook("ses", Request(headers, body, NOW), secrets)
    return refused.value.status


@pytest.mark.parametrize("name", ["sns.amazonaws.com", "sns.us-east-1.amazonaws.com"])
def test_valid_chain_is_believed(name: str) -> None:
    leaf = certificate(name, RSA_KEY, ISSUER, CA_KEY, is_authority=False)
    assert parse_webhook("ses", Request(*signed_ses(), NOW), sns_secrets(leaf))


@pytest.mark.parametrize(
    "url",
    [
        "https://sns.us-east-1.amazonaws.com.evil.example/SimpleNotificationService-0123abcd.pem",
        "https://evil.example/SimpleNotificationService-0123abcd.pem",
        "http://sns.us-east-1.amazonaws.com/SimpleNotificationService-0123abcd.pem",
        "https://sns.us-east-1.amazonaws.com@evil.example/SimpleNotificationService-0123abcd.pem",
        # A bucket that anybody can name, and another region than the topic's.
        "https://sns.s3-us-east-1.amazonaws.com/SimpleNotificationService-0123abcd.pem",
        "https://sns.s3-eu-west-1.amazonaws.com/SimpleNotificationService-0123abcd.pem",
        "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0123abcd.pem",
        "https://sns.us-east-1.amazonaws.com/other.pem",
        "https://sns.us-east-1.amazonaws.com/x/SimpleNotificationService-0123abcd.pem",
        "https://sns.us-east-1.amazonaws.com.cn/SimpleNotificationService-0123abcd.pem",
    ],
)
def test_certificate_from_elsewhere_is_never_fetched(url: str) -> None:
    fetched: list[str] = []

    def fetch(url: str) -> bytes:
        fetched.append(url)
        return b""

    secrets = Secrets(ses_topics=(TOPIC,), fetch=fetch, authorities=lambda: (ROOT,))
    assert (refusal(*signed_ses(SigningCertURL=url), secrets), fetched) == (401, [])


@pytest.mark.parametrize("begins_and_ends", [(-2 * DAY, -DAY), (DAY, 2 * DAY)])
def test_certificate_of_another_time_is_refused(begins_and_ends: tuple[timedelta, timedelta]) -> None:
    begins, ends = (NOW + shift for shift in begins_and_ends)
    leaf = certificate(
        "sns.amazonaws.com", RSA_KEY, ISSUER, CA_KEY, is_authority=False, begins=begins, ends=ends
    )
    assert refusal(*signed_ses(), sns_secrets(leaf)) == 401


def test_self_signed_certificate_is_refused() -> None:
    leaf = certificate("sns.amazonaws.com", RSA_KEY, "sns.amazonaws.com", RSA_KEY, is_authority=False)
    assert refusal(*signed_ses(), sns_secrets(leaf)) == 401


def test_certificate_of_an_unknown_authority_is_refused() -> None:
    key = rsa.generate_private_key(65537, 2048)
    root = certificate("Root", key, "Root", key, is_authority=True)
    assert refusal(*signed_ses(), sns_secrets(LEAF, (root,))) == 401
    assert refusal(*signed_ses(), sns_secrets(LEAF, ())) == 401


def test_certificate_signed_by_a_certificate_that_is_no_authority_is_refused() -> None:
    key = rsa.generate_private_key(65537, 2048)
    leaf = certificate("sns.amazonaws.com", RSA_KEY, ISSUER, key, is_authority=False)
    assert refusal(*signed_ses(), sns_secrets(leaf)) == 401


def test_genuine_certificate_of_somebody_else_is_refused() -> None:
    leaf = certificate("www.example.com", RSA_KEY, ISSUER, CA_KEY, is_authority=False)
    assert refusal(*signed_ses(), sns_secrets(leaf)) == 401


def test_topic_of_somebody_else_is_refused() -> None:
    assert refusal(*signed_ses(TopicArn=TOPIC + "x"), sns_secrets()) == 401
    # The header names our topic, the signed body another.
    headers, body = signed_ses(TopicArn=TOPIC + "x")
    assert refusal({**headers, "x-amz-sns-topic-arn": TOPIC}, body, sns_secrets()) == 401


def test_this_machine_trusts_authorities_of_amazon() -> None:
    assert amazon_authorities()
