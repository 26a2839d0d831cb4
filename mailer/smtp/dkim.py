"""DKIM signatures (RFC 6376, RFC 8463): bytes in, header fields out.

Both canonicalizations are relaxed. Signatures carry no timestamp and both algorithms are deterministic,
so the same message always gets the same signature.
"""

from __future__ import annotations

import base64
import hashlib
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from mailer.errors import ConfigError

PrivateKey = RSAPrivateKey | Ed25519PrivateKey

MIN_RSA_BITS: Final = 2048
"""RFC 8301 has verifiers reject keys under 1024 bits; receivers distrust keys under 2048."""
SIGNED: Final = frozenset(
    b"from to subject date message-id reply-to mime-version content-type content-transfer-encoding "
    b"list-id list-unsubscribe list-unsubscribe-post feedback-id".split()
)
"""The header fields that a signature covers if they are present."""

_FOLD: Final = "\r\n\t"
_PADDING: Final = padding.PKCS1v15()
_SHA256: Final = hashes.SHA256()


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key and where its public half is published: `selector._domainkey.domain`."""

    domain: str
    selector: str
    key: PrivateKey


@lru_cache(maxsize=8)
def _checked_key(pem: bytes) -> PrivateKeyTypes:
    """Return the key in a PEM text, cached: OpenSSL takes tens of milliseconds to check one."""
    return serialization.load_pem_private_key(pem, password=None)


def load_key(path: Path) -> PrivateKey:
    """Return the key in a PEM file; raise `ConfigError` if mail cannot be signed with it."""
    try:
        key = _checked_key(path.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot read the DKIM key ({error.strerror})", remedy="check key_file"
        ) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            f"{path}: not an unencrypted private key in PEM form", remedy="make a new key"
        ) from error
    if isinstance(key, RSAPrivateKey) and key.key_size < MIN_RSA_BITS:
        raise ConfigError(
            f"{path}: an RSA key of {key.key_size} bits is too short to sign with",
            remedy=f"make a key of {MIN_RSA_BITS} bits and publish it",
        )
    if isinstance(key, PrivateKey):
        return key
    raise ConfigError(f"{path}: DKIM signs with RSA or Ed25519 keys only", remedy="make a new key")


def generate_key(kind: Literal["rsa", "ed25519"] = "rsa") -> bytes:
    """Return a new private key as PEM (PKCS #8)."""
    key: PrivateKey
    if kind == "rsa":
        key = generate_private_key(public_exponent=65537, key_size=MIN_RSA_BITS)
    else:
        key = Ed25519PrivateKey.generate()
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def dns_record(key: PrivateKey) -> str:
    """Return the TXT record to publish for a key (RFC 6376 section 3.6.1)."""
    if isinstance(key, RSAPrivateKey):
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode()}"
    public = key.public_key().public_bytes_raw()
    return f"v=DKIM1; k=ed25519; p={base64.b64encode(public).decode()}"


def relaxed_lines(lines: bytes) -> bytes:
    """Return whole lines, each ending in CRLF, in relaxed form (RFC 6376 section 3.4.4).

    The relaxed forms of consecutive lines may be joined. Empty lines at the end of a body are kept here;
    `body_digest` drops them.
    """
    if b"\t" in lines:
        lines = lines.replace(b"\t", b" ")
    while b"  " in lines:
        lines = lines.replace(b"  ", b" ")
    return lines.replace(b" \r\n", b"\r\n") if b" \r" in lines else lines


def body_digest(body: bytes) -> bytes:
    """Return the relaxed body hash of a whole body (RFC 6376 section 3.7)."""
    lines = relaxed_lines(body if body.endswith(b"\r\n") or not body else body + b"\r\n")
    end = len(lines)
    while lines.endswith(b"\r\n\r\n", 0, end):
        end -= 2
    return hashlib.sha256(b"" if lines[:end] == b"\r\n" else lines[:end]).digest()


class DkimSigner:
    """Signs messages with one key, or with several so that receivers can use the algorithm they know."""

    def __init__(self, keys: Sequence[SigningKey]) -> None:
        self._keys = tuple(keys)
        self._names: dict[tuple[bytes, ...], str] = {}

    def sign(self, headers: bytes, body: bytes) -> bytes:
        """Return the DKIM-Signature fields to put in front of `headers`.

        `headers` are the final fields, each ending in CRLF, without the empty line; `body` is what
        follows that line, before dots are stuffed.
        """
        return self.sign_digest(headers, body_digest(body))

    def sign_digest(self, headers: bytes, digest: bytes) -> bytes:
        """Return the same fields as `sign`, given the hash of the body."""
        fields = [(name, value) for name, value in _fields(headers) if name in SIGNED]
        if not any(name == b"from" for name, _ in fields):
            raise ValueError("a message without From: cannot be signed")
        # Verifiers read fields of one name from last to first (section 5.4.2).
        fields.reverse()
        names = self._covered(tuple(name for name, _ in fields))
        covered = b"".join(b"%b:%b\r\n" % field for field in fields)
        body_hash = base64.b64encode(digest).decode()
        return b"".join(_signature(key, names, covered, body_hash) for key in self._keys)

    def _covered(self, names: tuple[bytes, ...]) -> str:
        """Return the folded value of `h=`, cached: a run needs only a handful."""
        folded = self._names.get(names)
        if folded is None:
            # One more From: than there are, so that adding a second one breaks the signature.
            listed = ":".join(name.decode() for name in (*names, b"from"))
            folded = self._names[names] = _FOLD.join(
                textwrap.wrap(listed.replace(":", ": "), 70, break_on_hyphens=False)
            ).replace(": ", ":")
        return folded


def _signature(key: SigningKey, names: str, covered: bytes, body_hash: str) -> bytes:
    rsa = isinstance(key.key, RSAPrivateKey)
    tags = (
        f"v=1; a={'rsa' if rsa else 'ed25519'}-sha256; c=relaxed/relaxed;{_FOLD}"
        f"d={key.domain}; s={key.selector};{_FOLD}h={names};{_FOLD}bh={body_hash};{_FOLD}b="
    )
    data = covered + f"dkim-signature:{tags.replace(_FOLD, ' ')}".encode()
    if isinstance(key.key, RSAPrivateKey):
        signature = key.key.sign(data, _PADDING, _SHA256)
    else:
        # RFC 8463 section 3: Ed25519 signs the hash, not the data.
        signature = key.key.sign(hashlib.sha256(data).digest())
    text = base64.b64encode(signature).decode()
    folded = _FOLD.join(text[at : at + 72] for at in range(0, len(text), 72))
    return f"DKIM-Signature: {tags}{folded}\r\n".encode()


def _fields(headers: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and value of each field in relaxed form (RFC 6376 section 3.4.2)."""
    unfolded = headers.replace(b"\r\n\t", b" ").replace(b"\r\n ", b" ").replace(b"\t", b" ")
    while b"  " in unfolded:
        unfolded = unfolded.replace(b"  ", b" ")
    for line in unfolded.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon:
            yield name.rstrip(b" ").lower(), value.strip(b" ")
