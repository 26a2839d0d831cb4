"""OpenID Connect: who logged in at the organization's provider (authorization code flow with PKCE).

The provider is somebody else's program: its answers are limited in size and time, and it proves who it is
with a signature by one of its own keys. Shared secrets sign nothing here, whatever a token's header says.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final
from urllib.parse import quote_plus, urlsplit

import httpx
from authlib.common.security import generate_token
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, Key, KeySet
from joserfc.jws import JWSRegistry

from mailer.config import Oidc, is_loopback
from mailer.console.accounts import Account
from mailer.errors import RefusedError
from mailer.smtp.tls import client_context

_SECONDS: Final = 10.0
"""For all requests to the provider at one step of a login."""
_MOST_OCTETS: Final = 256 * 1024
_MOST_SUBJECT: Final = 255
_LEEWAY_SECONDS: Final = 60
"""How far the provider's clock may be from ours."""
_ALGORITHMS: Final = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA",
)  # fmt: skip
_KEY_TYPES: Final = ("RSA", "EC", "OKP")
_SCOPE: Final = "openid email"
# Reading the certificates of all authorities takes a while.
_tls: Final = cache(client_context)


class LoginError(RefusedError):
    """The provider did not log this person in, or its answer proves nothing."""


@dataclass(frozen=True, slots=True)
class _Endpoints:
    authorization: str
    token: str
    keys: str
    userinfo: str
    posts_secret: bool
    """Whether the provider wants the client's secret in the form and not in a header."""
    names_itself: bool
    """Whether the provider puts its name into every response (RFC 9207)."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A login that has begun; only the server knows the nonce and the verifier."""

    url: str
    """Where the browser goes."""
    state: str
    nonce: str
    verifier: str
    redirect: str
    endpoints: _Endpoints


class Provider:
    """The organization's provider."""

    def __init__(self, rules: Oidc, secret: str) -> None:
        self._rules = rules
        self._secret = secret

    async def begin(self, redirect: str) -> Attempt:
        """Return a new attempt; the provider sends the browser back to `redirect`. Raises `LoginError`."""
        async with _limited(), self._client() as client:
            endpoints = await self._endpoints(client)
        state, nonce, verifier = (generate_token(48) for _ in range(3))
        url = prepare_grant_uri(
            endpoints.authorization,
            self._rules.client_id,
            "code",
            redirect,
            _SCOPE,
            state,
            nonce=nonce,
            code_challenge=create_s256_code_challenge(verifier),
            code_challenge_method="S256",
        )
        return Attempt(url, state, nonce, verifier, redirect, endpoints)

    async def account(self, attempt: Attempt, answer: Mapping[str, str], *, at: datetime) -> Account:
        """Return the person's account, given the query that the browser brought back.

        Raises `LoginError` if anything about the answer, or the ID token behind it, is not right.
        """
        issuer = answer.get("iss")
        if issuer is None and attempt.endpoints.names_itself:
            raise LoginError("The answer does not name the provider")
        if issuer is not None and issuer != self._rules.issuer:
            raise LoginError("The answer is from another provider")
        if "error" in answer:
            raise LoginError(f"The provider did not log you in ({_word(answer['error'])})")
        if not answer.get("code"):
            raise LoginError("The provider sent no code")
        async with _limited(), self._client() as client:
            tokens = await self._tokens(client, attempt, answer["code"])
            keys = await _fetched(client, "GET", attempt.endpoints.keys)
            access = _text(tokens, "access_token")
            claims = self._claims(tokens, keys, attempt.nonce, access, at=at)
            if "email" not in claims and attempt.endpoints.userinfo and access:
                # Many providers keep the address out of the token.
                headers = {"authorization": f"Bearer {access}"}
                person = await _fetched(client, "GET", attempt.endpoints.userinfo, headers=headers)
                if person.get("sub") != claims["sub"]:
                    raise LoginError("The provider answered about another person")
                claims = person
        if not (email := _text(claims, "email")):
            raise LoginError("The provider does not say your email address")
        if claims.get("email_verified") is not True:
            raise LoginError(f"The provider has not verified the address {email[:254]}")
        subject = _text(claims, "sub")
        if not (0 < len(subject) <= _MOST_SUBJECT and subject.isascii() and subject.isprintable()):
            raise LoginError("The provider's name for your account is not valid (sub)")
        return Account(self._rules.issuer, subject, email)

    async def _endpoints(self, client: httpx.AsyncClient) -> _Endpoints:
        issuer = self._rules.issuer
        found = await _fetched(client, "GET", f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != issuer:
            raise LoginError("The provider calls itself by another name than console.oidc.issuer")
        names = ("authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint")
        urls = {name: _text(found, name) for name in names}
        for name, url in urls.items():
            if not _is_safe(url, issuer) and (url or name != "userinfo_endpoint"):
                raise LoginError(f"The provider's {name} is missing or not https")
        methods = found.get("token_endpoint_auth_methods_supported")
        return _Endpoints(
            authorization=urls["authorization_endpoint"],
            token=urls["token_endpoint"],
            keys=urls["jwks_uri"],
            userinfo=urls["userinfo_endpoint"],
            posts_secret=isinstance(methods, list) and "client_secret_basic" not in methods,
            names_itself=found.get("authorization_response_iss_parameter_supported") is True,
        )

    async def _tokens(self, client: httpx.AsyncClient, attempt: Attempt, code: str) -> Mapping[str, Any]:
        """Exchange the code for tokens."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": attempt.redirect,
            "code_verifier": attempt.verifier,
        }
        own = (self._rules.client_id, self._secret)
        if attempt.endpoints.posts_secret:
            form |= dict(zip(("client_id", "client_secret"), own, strict=True))
            return await _fetched(client, "POST", attempt.endpoints.token, data=form)
        auth = httpx.BasicAuth(*(quote_plus(one) for one in own))
        return await _fetched(client, "POST", attempt.endpoints.token, data=form, auth=auth)

    def _claims(
        self, tokens: Mapping[str, Any], keys: Mapping[str, Any], nonce: str, access: str, *, at: datetime
    ) -> Mapping[str, Any]:
        """Return the claims of the ID token, once signature, issuer, audience, time and nonce are checked."""
        try:
            decoded = jwt.decode(
                _text(tokens, "id_token"),
                _key_set(keys),
                registry=JWSRegistry(algorithms=list(_ALGORITHMS), strict_check_header=False),
            )
            own = {
                "iss": {"essential": True, "value": self._rules.issuer},
                "aud": {"essential": True, "value": self._rules.client_id},
                "sub": {"essential": True},
            }
            asked = {"nonce": nonce, "client_id": self._rules.client_id, "access_token": access}
            claims = CodeIDToken(decoded.claims, decoded.header, own, asked)
            claims.validate(now=int(at.timestamp()), leeway=_LEEWAY_SECONDS)
        except (JoseError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise LoginError(f"The provider's ID token is not valid ({_word(str(error))})") from error
        return dict(claims)

    def _client(self) -> httpx.AsyncClient:
        verify = self._rules.issuer.startswith("https:") and _tls()
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        return httpx.AsyncClient(verify=verify, timeout=_SECONDS, trust_env=False, headers=headers)


@asynccontextmanager
async def _limited() -> AsyncIterator[None]:
    """Limit the time of the requests in the block; raise `LoginError` if they fail."""
    try:
        async with asyncio.timeout(_SECONDS):
            yield
    except (TimeoutError, httpx.TimeoutException) as error:
        raise LoginError("The provider does not answer", remedy="try again later") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise LoginError("The provider cannot be reached", remedy="try again later") from error


async def _fetched(client: httpx.AsyncClient, method: str, url: str, **sent: Any) -> Mapping[str, Any]:
    """Return the JSON object that the provider answers with."""
    content = b""
    async with client.stream(method, url, **sent) as response:
        # Not decompressed: a small answer could become a large one.
        async for part in response.aiter_raw():
            content += part
            if len(content) > _MOST_OCTETS:
                raise LoginError("The provider's answer is too large")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if response.status_code != 200:
        said = _word(_text(found, "error")) if isinstance(found, dict) else ""
        raise LoginError(f"The provider refused the login ({said or response.status_code})")
    if not isinstance(found, dict):
        raise LoginError("The provider's answer makes no sense")
    return found


def _key_set(found: Mapping[str, Any]) -> KeySet:
    """Return the provider's keys for signatures, without those that we cannot use."""
    keys: list[Key] = []
    listed = found.get("keys")
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, dict) and one.get("kty") in _KEY_TYPES and one.get("use", "sig") == "sig":
            with suppress(JoseError, ValueError, TypeError, KeyError):
                keys.append(JWKRegistry.import_key(one))
    return KeySet(keys)


def _text(found: Mapping[str, Any], key: str) -> str:
    value = found.get(key)
    return value if isinstance(value, str) else ""


def _word(text: str) -> str:
    """Return the start of foreign text, without characters that could mean something."""
    return re.sub(r"[^\w .,:'-]", "", text)[:80]


def _is_safe(url: str, issuer: str) -> bool:
    """Return whether requests to an endpoint cannot be read on the way."""
    try:
        parts = urlsplit(url)
        local = not issuer.startswith("https:") and is_loopback(parts.hostname or "")
    except ValueError:
        return False
    return bool(parts.netloc) and (parts.scheme == "https" or (parts.scheme == "http" and local))
