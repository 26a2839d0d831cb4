"""Editions as they are built, composed and read."""

import email
import email.policy
import functools
import os
import re
from dataclasses import replace
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Literal, get_args

import dkim as dkimpy
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from mailer.config import Brand, Newsletter
from mailer.rendering.build import Letter, build_edition, build_letter
from mailer.rendering.edition import Edition
from mailer.rendering.html.article import article
from mailer.rendering.message import Composer, Dkim, Recipient
from mailer.rendering.source import read_issue
from mailer.smtp import dkim
from mailer.tokens import Signer, Subject

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "email_templates"
SAMPLE = ROOT / "issues" / "001-a-bean-in-a-jar.md"
SEED = ROOT.parent / "shared" / "seed" / "last-week-in-ai-1.md"
NEWSLETTER = Newsletter(name="Small Hours", postal_address="1 Garden Lane, 12345 Somewhere")
SIGNER = Signer([b"a secret of more than sixteen octets"])
AT = datetime(2026, 3, 4, 10, 0, tzinfo=UTC)
READERS = [
    Recipient(5, "ada@example.net"),
    Recipient(6, "ada@example.net", "Ada", {"country": "Iceland"}, ("plants",)),
]


def built(path: Path, *, track_opens: bool = True) -> Edition:
    if not path.exists() and os.environ.get("CI") != "true":
        pytest.skip("the seed issue is not beside the project")
    return build_edition(
        read_issue(path), NEWSLETTER, Brand(), TEMPLATES, track_clicks=True, track_opens=track_opens,
        public_url="https://news.example.org",
    )  # fmt: skip


def read(edition: Edition, recipient: Recipient, *, letter: bool = False) -> EmailMessage:
    composer = Composer(
        edition, issue_id=0 if letter else 3, newsletter=NEWSLETTER, public_url="https://news.example.org",
        bounce_domain="bounce.example.org", unsubscribe_address="leave@bounce.example.org", signer=SIGNER,
        letter=letter,
    )  # fmt: skip
    content = composer.compose(recipient, AT).content
    assert all(len(line) <= 76 for line in content.partition(b"\r\n\r\n")[2].split(b"\r\n"))
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert [part.defects for part in message.walk() if part.defects] == []
    return message


def content(message: EmailMessage, kind: str) -> str:
    part = message.get_body(preferencelist=(kind,))
    assert isinstance(part, EmailMessage)
    text: str = part.get_content()
    return text


@pytest.mark.parametrize("path", [SAMPLE, SEED], ids=["sample", "seed"])
@pytest.mark.parametrize("recipient", READERS, ids=["nameless", "named"])
def test_both_parts_of_a_built_issue_have_an_unsubscribe_link(path: Path, recipient: Recipient) -> None:
    message = read(built(path), recipient)
    url = f"https://news.example.org/u/{SIGNER.link(Subject(3, recipient.subscriber_id))}"
    for kind in ("plain", "html"):
        assert url in content(message, kind)
        assert "1 Garden Lane" in content(message, kind)
        assert "\0" not in content(message, kind)
        assert "{{" not in content(message, kind)


@pytest.mark.parametrize("path", [SAMPLE, SEED], ids=["sample", "seed"])
def test_the_pixel_changes_nothing_else(path: Path) -> None:
    tracked, pixels = re.subn(r"<tr><td><img [^>]*width=\"1\"[^>]*></td></tr>", "", built(path).html)
    assert pixels == 1
    assert tracked == built(path, track_opens=False).html


@pytest.mark.parametrize("path", [SAMPLE, SEED], ids=["sample", "seed"])
def test_the_page_of_a_built_issue_carries_no_token(path: Path) -> None:
    edition = built(path)
    page = article(edition, public_url="https://news.example.org").body
    assert "\0" not in page
    assert "{{" not in page
    for path_of_token in ("/u/", "/p/", "/c/", "/o/"):
        assert f"https://news.example.org{path_of_token}" not in page
    assert all(link.partition("?")[0] in page for link in edition.links)


@pytest.mark.parametrize("kind", get_args(Letter))
def test_a_letter_has_no_unsubscribe_header(kind: Letter) -> None:
    letter = build_letter(kind, NEWSLETTER, Brand(), TEMPLATES, public_url="https://news.example.org")
    message = read(letter, READERS[1], letter=True)
    assert "1 Garden Lane" in content(message, "plain")
    assert "/u/" not in content(message, "html")
    assert message["List-Unsubscribe"] is None


@functools.cache
def key_of(kind: Literal["rsa", "ed25519"]) -> dkim.PrivateKey:
    return generate_private_key(65537, 2048) if kind == "rsa" else Ed25519PrivateKey.generate()


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
@pytest.mark.parametrize("name", ["Ada", "A  lot \t of   blanks ", "\n\n\n", "É" * 300])
def test_a_signed_message_verifies(kind: Literal["rsa", "ed25519"], name: str) -> None:
    key = key_of(kind)
    signing = dkim.DkimSigner([dkim.SigningKey("example.org", "mail", key)])
    edition = replace(built(SAMPLE), text="Hello {{ subscriber.name }}  \n\t\n   x\n\n\n")
    composer = Composer(
        edition, issue_id=3, newsletter=NEWSLETTER, public_url="https://news.example.org",
        bounce_domain="bounce.example.org", unsubscribe_address="leave@bounce.example.org", signer=SIGNER,
        dkim=Dkim(dkim.relaxed_lines, signing.sign_digest),
    )  # fmt: skip
    message = composer.compose(Recipient(5, "ada@example.net", name), AT).content

    def record(_name: bytes, timeout: int = 5) -> bytes:
        return dkim.dns_record(key).encode()

    assert dkimpy.verify(message, dnsfunc=record)
    assert not dkimpy.verify(message.replace(b"Garden", b"Gorden"), dnsfunc=record)
    assert not dkimpy.verify(message.replace(b"One-Click", b"Two-Click"), dnsfunc=record)
