"""A small OpenID Connect provider on a local port, which can be made to misbehave in one way at a time."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from tests.web.conftest import serving

CLIENT, SECRET = "console", "a secret: 50%"
Claims = dict[str, Any]


def b64(content: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii")


def new_key() -> rsa.RSAPrivateKey:
    """Return a new RSA key."""
    return rsa.generate_private_key(65537, 2048)


@dataclass
class Misbehaviour:
    """What the provider does wrong; nothing by default."""

    claims: Claims = field(default_factory=dict)
    """Replace claims of the ID token; None removes one."""
    userinfo: Claims = field(default_factory=dict)
    metadata: Claims = field(default_factory=dict)
    header: Claims = field(default_factory=dict)
    sign: Callable[[bytes], bytes] | None = None
    answers: dict[str, Callable[[], Response]] = field(default_factory=dict)
    """What these paths answer with instead."""
    slow: str = ""
    """This path takes a second."""
    query: Claims = field(default_factory=dict)
    """Replace parts of the query that the browser brings back; None removes one."""


class Provider:
    """Logs in whoever comes, as `person`."""

    def __init__(self) -> None:
        self.url = ""
        self.key = new_key()
        self.person: Claims = {"email": "Mia@Example.org", "email_verified": True}
        self.wrong = Misbehaviour()
        self.asked: list[dict[str, str]] = []
        """The queries of the browsers that came."""
        self._codes: dict[str, dict[str, str]] = {}

    @property
    def public(self) -> bytes:
        """The public key, as anybody may know it."""
        return self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def app(self) -> Starlette:
        """Return the provider as an application."""
        routes = {
            "/.well-known/openid-configuration": self._metadata,
            "/authorize": self._authorize,
            "/token": self._token,
            "/keys": self._keys,
            "/userinfo": self._userinfo,
        }
        return Starlette(
            routes=[Route(path, self._or_wrong(path, answer), methods=["GET", "POST"])
                    for path, answer in routes.items()]
        )  # fmt: skip

    def _or_wrong(self, path: str, answer: Callable[[Request], Response]) -> Any:
        async def answered(request: Request) -> Response:
            if path == self.wrong.slow:
                await asyncio.sleep(1)
            instead = self.wrong.answers.get(path)
            # Starlette caches the body, so that the answer can read it without waiting.
            await request.body()
            return instead() if instead else answer(request)

        return answered

    def _metadata(self, request: Request) -> Response:
        found = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "authorization_response_iss_parameter_supported": True,
        }
        return JSONResponse(found | self.wrong.metadata)

    def _authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        self.asked.append(asked)
        code = secrets.token_urlsafe()
        self._codes[code] = asked
        answer = {"code": code, "state": asked["state"], "iss": self.url} | self.wrong.query
        sent = {key: value for key, value in answer.items() if value is not None}
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode(sent)}", 303)

    def _token(self, request: Request) -> Response:
        form = {key: values[0] for key, values in parse_qs(request._body.decode("ascii")).items()}
        given = request.headers.get("authorization", "")
        own = f"{CLIENT}:a+secret%3A+50%25"
        by_form = (form.get("client_id"), form.get("client_secret")) == (CLIENT, SECRET)
        if not by_form and given != f"Basic {base64.b64encode(own.encode()).decode()}":
            return JSONResponse({"error": "invalid_client"}, 401)
        asked = self._codes.pop(form["code"], None)
        challenge = b64(hashlib.sha256(form["code_verifier"].encode()).digest())
        if asked is None or asked["redirect_uri"] != form["redirect_uri"]:
            return JSONResponse({"error": "invalid_grant"}, 400)
        if (asked["code_challenge_method"], asked["code_challenge"]) != ("S256", challenge):
            return JSONResponse({"error": "invalid_grant"}, 400)
        access = secrets.token_urlsafe()
        token = {"access_token": access, "token_type": "Bearer", "id_token": self._id_token(asked, access)}
        return JSONResponse(token)

    def _id_token(self, asked: dict[str, str], access: str) -> str:
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": CLIENT,
            "sub": "mia",
            "iat": now,
            "exp": now + 300,
            "nonce": asked["nonce"],
            "at_hash": b64(hashlib.sha256(access.encode()).digest()[:16]),
            **self.person,
            **self.wrong.claims,
        }
        header = {"alg": "RS256", "typ": "JWT", "kid": "first"} | self.wrong.header
        parts = (header, {name: value for name, value in claims.items() if value is not None})
        signed = ".".join(b64(json.dumps(part).encode()) for part in parts)
        sign = self.wrong.sign or (lambda content: by_rsa(self.key, content))
        return f"{signed}.{b64(sign(signed.encode()))}"

    def _keys(self, request: Request) -> Response:
        numbers = self.key.public_key().public_numbers()
        modulus, exponent = (
            b64(number.to_bytes((number.bit_length() + 7) // 8, "big")) for number in (numbers.n, numbers.e)
        )
        own = {"kty": "RSA", "kid": "first", "use": "sig", "n": modulus, "e": exponent}
        shared = {"kty": "oct", "kid": "shared", "k": b64(b"a secret that everybody may read")}
        return JSONResponse({"keys": [{"kty": "new"}, shared, own]})

    def _userinfo(self, request: Request) -> Response:
        return JSONResponse({"sub": "mia", **self.person} | self.wrong.userinfo)


def by_rsa(key: rsa.RSAPrivateKey, content: bytes) -> bytes:
    """Return a signature by RS256."""
    return key.sign(content, padding.PKCS1v15(), hashes.SHA256())


def by_hmac(secret: bytes, content: bytes) -> bytes:
    """Return a signature by HS256."""
    return hmac.digest(secret, content, "sha256")


@contextmanager
def provider() -> Iterator[Provider]:
    """Run a provider."""
    made = Provider()
    with serving(made.app()) as made.url:
        yield made


def text(content: str, status: int = 200) -> Callable[[], Response]:
    """Return what answers with this text."""
    return lambda: PlainTextResponse(content, status)
