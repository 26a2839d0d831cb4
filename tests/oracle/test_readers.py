"""Our messages as mailparser and mailauth, both written for Node.js, read them."""

from __future__ import annotations

import base64
import email
import email.policy
import functools
import json
from dataclasses import replace
from email.message import EmailMessage
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from mailer.rendering.edition import InlineImage
from mailer.rendering.message import Dkim
from mailer.smtp import dkim
from tests.oracle.node import node
from tests.rendering.message.test_composer import ANNA, AT, EDITION, composer

pytestmark = pytest.mark.servers
IMAGES = (
    InlineImage("one@007", "image/png", bytes(range(256)) * 3),
    InlineImage("two@007", "image/gif", b"GIF89a"),
)
HTML = EDITION.html + '<p>Grüße, 日本 👋</p><img src="cid:one@007" alt=""><img src="cid:two@007" alt="">'
FULL = replace(
    EDITION,
    subject="Grüße zum Wochenende, " + "sehr lang " * 12 + "👋",
    html=HTML,
    text=EDITION.text + "\nGrüße, 日本 👋\n-- \nA line = with equals, and blanks  inside\n",
    images=IMAGES,
)
COVERED = (
    "from",
    "to",
    "subject",
    "date",
    "message-id",
    "list-id",
    "list-unsubscribe",
    "list-unsubscribe-post",
)


def lines(text: str) -> str:
    """Return `text` with line ends as Python has them, and none at the end."""
    return text.replace("\r\n", "\n").rstrip("\n")


def unfolded(line: str) -> str:
    return " ".join(line.partition(":")[2].split())


def test_mailparser_reads_what_python_reads() -> None:
    content = composer(FULL).compose(ANNA, AT).content
    theirs: dict[str, Any] = json.loads(node("parse.mjs", content))
    ours = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(ours, EmailMessage)
    assert FULL.subject.split() == theirs["subject"].split()
    assert FULL.subject.split() == ours["Subject"].split()
    assert theirs["from"] == [{"name": "Ada Éva", "address": "ada@example.org"}]
    assert theirs["to"] == [{"name": "Anna", "address": "anna@example.net"}]
    assert AT.isoformat().replace("+00:00", ".000Z") == theirs["date"]
    assert ours["Message-ID"] == theirs["message_id"]
    for kind, key in (("plain", "text"), ("html", "html")):
        part = ours.get_body(preferencelist=(kind,))
        assert isinstance(part, EmailMessage)
        assert lines(part.get_content()) == lines(theirs[key])
    assert "Grüße, 日本 👋" in theirs["text"]
    assert "Grüße, 日本 👋" in theirs["html"]
    assert sorted(key.lower() for key in ours.keys()) == sorted(theirs["headers"])  # noqa: SIM118
    for name in ("list-id", "list-unsubscribe", "list-unsubscribe-post", "feedback-id"):
        assert " ".join(str(ours[name]).split()) == unfolded(theirs["headers"][name])
    assert [(image.content_id, image.media_type, image.content) for image in IMAGES] == [
        (part["cid"], part["type"], base64.b64decode(part["content"])) for part in theirs["attachments"]
    ]


@functools.cache
def keys() -> dict[str, dkim.SigningKey]:
    return {
        "rsa": dkim.SigningKey("example.org", "r1", generate_private_key(65537, 2048)),
        "ed25519": dkim.SigningKey("example.org", "e1", Ed25519PrivateKey.generate()),
    }


def verdicts(content: bytes) -> list[dict[str, Any]]:
    records = {f"{key.selector}._domainkey.{key.domain}": dkim.dns_record(key.key) for key in keys().values()}
    found: list[dict[str, Any]] = json.loads(node("verify.mjs", content, json.dumps(records)))
    return found


def signed(*kinds: str) -> bytes:
    signer = dkim.DkimSigner([keys()[kind] for kind in kinds])
    signing = Dkim(dkim.relaxed_lines, signer.sign_digest)
    return composer(FULL, dkim=signing).compose(ANNA, AT).content


def test_mailauth_accepts_both_signatures_and_both_cover_the_way_out() -> None:
    found = verdicts(signed("rsa", "ed25519"))
    assert sorted(
        ((one["result"], one["algorithm"], one["selector"]) for one in found),
        key=lambda one: one[2],
        reverse=True,
    ) == [("pass", "rsa-sha256", "r1"), ("pass", "ed25519-sha256", "e1")]
    for one in found:
        assert set(COVERED) <= set(one["covers"])


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
@pytest.mark.parametrize(
    ("was", "becomes", "verdict"),
    [
        (b"Post: List-Unsubscribe=One-Click", b"Post: List-Unsubscribe=Two", "fail"),
        (b"List-Unsubscribe: <https://news", b"List-Unsubscribe: <https://nevvs", "fail"),
        (b"Hello", b"Hallo", "neutral"),  # what it says of a body that has another hash
    ],
)
def test_mailauth_refuses_what_was_changed_on_the_way(
    kind: str, was: bytes, becomes: bytes, verdict: str
) -> None:
    content = signed(kind)
    assert was in content
    assert [one["result"] for one in verdicts(content.replace(was, becomes, 1))] == [verdict]
