"""DKIM: does the published key fit the private one? (RFC 6376)"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from mailer.doctor.findings import Finding, ok, problem, txt_record, warning
from mailer.doctor.names import Names
from mailer.smtp.dkim import PrivateKey, SigningKey, dns_record


def dkim(names: Names, keys: Sequence[SigningKey]) -> Iterator[Finding]:
    """Compare each private key with the record published for it."""
    if not keys:
        yield warning(
            "dkim",
            "[[dkim]]",
            "mailer does not sign: mail passes DKIM only if your relay signs for your domain",
            remedy="mailer dkim keygen DOMAIN, or check that the relay signs",
        )
    for key in keys:
        yield from _key(names, key)


def _key(names: Names, key: SigningKey) -> Iterator[Finding]:
    name = f"{key.selector}._domainkey.{key.domain}"
    wanted = txt_record(name, dns_record(key.key))
    records = [text for text in names.texts(name) if "p=" in text]
    if not records:
        yield problem("dkim", name, "no key is published", remedy="publish it", record=wanted)
        return
    if len(records) > 1:
        yield problem(
            "dkim",
            name,
            f"{len(records)} keys are published under one name; receivers may pick the wrong one",
            remedy="delete all but this one",
            record=wanted,
        )
        return
    tags = tags_of(records[0])
    if tags.get("v", "DKIM1") != "DKIM1":
        yield problem("dkim", name, "the record is not version DKIM1", remedy="replace it", record=wanted)
        return
    public = tags.get("p", "")
    if not public:
        yield problem(
            "dkim",
            name,
            "the published key is revoked (p= is empty)",
            remedy="publish the key, or make a new one with another selector",
            record=wanted,
        )
        return
    if not _same(public, tags.get("k", "rsa"), key.key):
        yield problem(
            "dkim",
            name,
            "the published key is not the one that mailer signs with, so every signature fails",
            remedy="replace the record",
            record=wanted,
        )
        return
    if found := list(_restrictions(name, tags, wanted)):
        yield from found
        return
    bits = f"RSA, {key.key.key_size} bits" if isinstance(key.key, RSAPrivateKey) else "Ed25519"
    yield ok("dkim", name, f"the published key fits the private one ({bits})")


def _restrictions(name: str, tags: dict[str, str], wanted: str) -> Iterator[Finding]:
    if "sha256" not in tags.get("h", "sha256").split(":"):
        yield problem(
            "dkim",
            name,
            f"the record allows only the hash {tags['h']}, and mailer uses sha256",
            remedy="replace the record",
            record=wanted,
        )
    if not {"*", "email"} & set(tags.get("s", "*").split(":")):
        yield problem(
            "dkim", name, "the record is not for email (s=)", remedy="replace the record", record=wanted
        )
    if "y" in tags.get("t", "").split(":"):
        yield warning(
            "dkim",
            name,
            "the record is marked as a test (t=y), so receivers may ignore signatures",
            remedy="remove t=y",
            record=wanted,
        )


def _same(public: str, kind: str, key: PrivateKey) -> bool:
    """Return whether `p=` and `k=` of a record publish the public half of a key."""
    try:
        published = base64.b64decode("".join(public.split()), validate=True)
    except (binascii.Error, ValueError):
        return False
    half = key.public_key()
    if isinstance(key, RSAPrivateKey):
        # Section 3.6.1 asks for a SubjectPublicKeyInfo; its example has a bare RSAPublicKey. Both are read.
        forms = (serialization.PublicFormat.SubjectPublicKeyInfo, serialization.PublicFormat.PKCS1)
        der = serialization.Encoding.DER
        return kind == "rsa" and published in [half.public_bytes(der, form) for form in forms]
    raw = half.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return kind == "ed25519" and published == raw


def tags_of(record: str) -> dict[str, str]:
    """Return the tags of a `tag=value; …` record (RFC 6376 section 3.2)."""
    pairs = (part.partition("=") for part in record.split(";"))
    return {name.strip().lower(): value.strip() for name, equals, value in pairs if equals}
