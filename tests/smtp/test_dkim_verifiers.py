"""Two verifiers that are not ours accept every message that we compose, and no message that was changed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import dkim
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailer.config import Newsletter
from mailer.rendering.edition import Edition
from mailer.rendering.message import Composer, Dkim, Recipient
from mailer.smtp.dkim import DkimSigner, SigningKey, dns_record, generate_key, load_key, relaxed_lines
from mailer.tokens import Signer
from tests.smtp.opendkim import Verifier, verifier

AT = datetime(2026, 3, 4, 10, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> list[SigningKey]:
    folder = tmp_path_factory.mktemp("keys")
    made = []
    for kind in ("rsa", "ed25519"):
        (folder / kind).write_bytes(generate_key("rsa" if kind == "rsa" else "ed25519"))
        made.append(SigningKey("example.org", kind, load_key(folder / kind)))
    return made


def records(keys: list[SigningKey]) -> dict[str, str]:
    return {f"{key.selector}._domainkey.{key.domain}": dns_record(key.key) for key in keys}


@pytest.fixture(scope="module")
def opendkim(keys: list[SigningKey]) -> Iterator[Verifier]:
    with verifier(records(keys)) as made:
        yield made


def by_dkimpy(keys: list[SigningKey], message: bytes) -> list[bool]:
    published = {f"{name}.".encode(): record.encode() for name, record in records(keys).items()}

    def verify(place: int) -> bool:
        try:
            found = dkim.DKIM(message).verify(idx=place, dnsfunc=lambda name, timeout=5: published.get(name))
        except dkim.ValidationError as error:
            if "body hash mismatch" not in str(error):
                raise
            return False
        return bool(found)

    return [verify(place) for place in range(len(keys))]


def compose(keys: list[SigningKey], text: str, name: str, city: str, subject: str, reply_to: str) -> bytes:
    edition = Edition(
        slug="007-title", title="T", subtitle="", author="", date="2026-03-04", number=7, tags=(),
        subject=subject, preheader="", links=("https://example.com/?a=1&b=2",), images=(), made_of={},
        html=f'<p>{text}</p>\n<p>{{{{ subscriber.name | default("you") }}}}</p>{{{{ subscriber.city }}}}',
        text=f'{text}\n{{{{ subscriber.name | default("you") }}}}\n\n{{{{ urls.unsubscribe }}}}\n',
    )  # fmt: skip
    composer = Composer(
        edition,
        issue_id=7,
        newsletter=Newsletter(name="The Week", author_address="ada@example.org", reply_to=reply_to),
        public_url="https://news.example.org",
        bounce_domain="bounce.example.org",
        unsubscribe_address="leave@bounce.example.org",
        signer=Signer([b"a secret of more than sixteen octets"]),
        dkim=Dkim(relaxed_lines, DkimSigner(keys).sign_digest),
    )
    reader = Recipient(9, "anna@example.net", name, {"city": city}, ())
    return composer.compose(reader, AT).content


plain = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="{}")
texts = st.text(st.one_of(st.sampled_from(" \t\n.=Fromé€🎈<&"), plain), max_size=200)
values = st.text(st.one_of(st.sampled_from(" \t\r\n.=é🎈{}%<&\"'"), plain), max_size=80)
subjects = st.text(st.one_of(st.sampled_from(" é🎈=?"), plain), min_size=1, max_size=120).map(
    lambda text: "A " + re.sub(r"=\?|[\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]", "", text)
)


@given(texts, values, values, subjects, st.sampled_from(["", "answers@example.org"]))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_both_verifiers_accept_whatever_we_compose(
    keys: list[SigningKey],
    opendkim: Verifier,
    text: str,
    name: str,
    city: str,
    subject: str,
    reply_to: str,
) -> None:
    message = compose(keys, text, name, city, subject, reply_to)
    assert by_dkimpy(keys, message) == [True, True]
    assert opendkim.results(message) == ["pass", "pass"]
    # RFC 8058 section 4: the one-click fields are among those that are signed.
    for signature in re.findall(rb"DKIM-Signature:.*?(?=\r\n\S)", message, re.S):
        signed = re.sub(rb"\s", b"", signature).lower().split(b"h=")[1].split(b";")[0].split(b":")
        assert {b"list-unsubscribe", b"list-unsubscribe-post", b"from", b"to", b"subject", b"date"} <= set(
            signed
        )
        assert signed.count(b"from") == 2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\r\nFrom: ", b"\r\nFrom: evil@example.net\r\nFrom: "),
        (b"\r\nMIME-Version: ", b"\r\nFrom: evil@example.net\r\nMIME-Version: "),
        (b"=One-Click", b"=Two-Click"),
        (b"\r\nList-Unsubscribe: <https", b"\r\nList-Unsubscribe: <http"),
        (b"Subject: A", b"Subject: B"),
        (b"Anna", b"Anne"),
    ],
    ids=["second From above", "second From below", "One-Click", "unsubscribe link", "subject", "body"],
)
def test_both_verifiers_refuse_what_was_changed(
    keys: list[SigningKey], opendkim: Verifier, old: bytes, new: bytes
) -> None:
    message = compose(keys, "Hello", "Anna", "Graz", "A letter", "")
    assert opendkim.results(message) == ["pass", "pass"]
    assert old in message
    changed = message.replace(old, new)
    assert by_dkimpy(keys, changed) == [False, False]
    # Of several failures it names one; what counts is that none passes.
    found = opendkim.results(changed)
    assert found
    assert "pass" not in found
