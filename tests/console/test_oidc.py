"""Logging in through an OpenID Connect provider, and attacks on it. The provider is real, on a local port."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from mailer.config import Console, Oidc, Secret
from mailer.console import accounts, oidc, users
from mailer.console.audit import entries
from mailer.console.guard import Guard
from mailer.console.login_pages import LoginPages
from mailer.console.oidc_login import OidcRoutes
from mailer.console.sessions import Visitor, digest, visitor_of
from mailer.console.tries import Tries
from mailer.console.users import Role
from mailer.database.engine import Database
from mailer.errors import MailerError, RefusedError, SourceError
from tests.console.provider import (
    CLIENT,
    SECRET,
    Misbehaviour,
    Provider,
    by_hmac,
    by_rsa,
    new_key,
    provider,
    text,
)
from tests.web.conftest import NO_TLS, serving

AT = datetime.now(UTC)
AGENT = "test browser"
COOKIE = "mailer-8602"
other_key = cache(new_key)


@pytest.fixture(scope="module")
def other() -> Iterator[Provider]:
    with provider() as running:
        yield running


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Two users: Mia, whom the provider knows, and Dan, whom it does not."""
    with Database("sqlite:///subscribers.db", folder=tmp_path_factory.mktemp("oidc")) as opened:
        opened.open()
        with opened.transaction() as connection:
            users.add_user(connection, "Mia", Role.SENDER, None, email="mia@example.org", at=AT)
            users.add_user(connection, "Dan", Role.ADMIN, "correct horse battery", at=AT)
        yield opened


@dataclass
class Visit:
    """A browser at the console."""

    client: httpx.Client
    sent: list[str] = field(default_factory=list)

    def begin(self, query: str = "") -> httpx.Response:
        return self.client.get(f"/login/oidc{query}", follow_redirects=False)

    def back(self) -> str:
        """Begin a login, and let the provider send the browser back; return where to."""
        begun = self.begin()
        assert begun.status_code == 303, begun.text
        with httpx.Client(verify=NO_TLS) as plain:
            return plain.get(begun.headers["location"]).headers["location"]

    def finish(self, url: str) -> httpx.Response:
        """Follow the provider back to the console."""
        parts = urlsplit(url)
        return self.client.get(f"{parts.path}?{parts.query}", follow_redirects=False)


class Consoles:
    """One server for the consoles of all tests, each with its own memory."""

    def __init__(self, database: Database) -> None:
        self.url = ""
        self._database = database
        self._now: ASGIApp = FastAPI()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._now(scope, receive, send)

    @contextmanager
    def start(self, other: Provider, secret: str = SECRET) -> Iterator[Visit]:
        """Start a console that trusts this provider; give a browser at it."""
        rules = Oidc(issuer=other.url, client_id=CLIENT, client_secret=Secret(SECRET), name="Our & login")
        app = FastAPI()
        pages = LoginPages(self._database, Console(oidc=rules), COOKIE, "News")
        OidcRoutes(pages, Tries(), oidc.Provider(rules, secret)).add_to(app)
        self._now = Guard(app, self._known, public_url="", port=8602)
        with httpx.Client(base_url=self.url, headers={"user-agent": AGENT}, verify=NO_TLS) as client:
            yield Visit(client)

    def _known(self, session_digest: str, agent: str) -> Visitor | None:
        with self._database.reading() as connection:
            return visitor_of(connection, session_digest, agent, at=AT)


@pytest.fixture(scope="module")
def consoles(database: Database) -> Iterator[Consoles]:
    made = Consoles(database)
    with serving(made) as made.url:
        yield made


@pytest.fixture
def visit(consoles: Consoles, other: Provider) -> Iterator[Visit]:
    other.wrong = Misbehaviour()
    with consoles.start(other) as opened:
        yield opened


def entered(database: Database, answer: httpx.Response) -> Visitor | None:
    """Return who has got a session by this answer."""
    secret = answer.cookies.get(COOKIE)
    if secret is None:
        return None
    with database.reading() as connection:
        return visitor_of(connection, digest(secret), AGENT, at=AT)


def test_user_logs_in_with_their_role(database: Database, other: Provider, visit: Visit) -> None:
    visit.client.cookies.set(COOKIE, "planted", domain="127.0.0.1")
    begun = visit.begin()
    assert begun.headers["set-cookie"].startswith(f"{COOKIE}-oidc=")
    assert "HttpOnly" in begun.headers["set-cookie"]
    assert "SameSite=lax" in begun.headers["set-cookie"]
    asked = dict(parse_qsl(urlsplit(begun.headers["location"]).query))
    assert asked["redirect_uri"] == f"{visit.client.base_url}/login/oidc/callback"
    assert asked["scope"] == "openid email"
    assert asked["code_challenge_method"] == "S256"
    answer = visit.finish(visit.back())
    assert answer.status_code == 200
    assert answer.headers["refresh"] == "0; url=/"
    visitor = entered(database, answer)
    assert visitor is not None
    assert (visitor.name, visitor.role) == ("Mia", Role.SENDER)
    assert answer.cookies[COOKIE] != "planted"
    assert visit.client.cookies.get(f"{COOKIE}-oidc") is None
    with database.reading() as connection:
        (latest, *_) = entries(connection, limit=1)
    assert (latest.who, latest.act, latest.details) == ("Mia", "login", {"by": "oidc"})


def test_each_login_has_secrets_of_its_own(other: Provider, visit: Visit) -> None:
    first, second = (dict(parse_qsl(urlsplit(visit.begin().headers["location"]).query)) for _ in range(2))
    for name in ("state", "nonce", "code_challenge"):
        assert len(first[name]) > 40
        assert first[name] != second[name]


@pytest.mark.parametrize(
    "wrong",
    [
        Misbehaviour(metadata={"token_endpoint_auth_methods_supported": ["client_secret_post"]}),
        Misbehaviour(claims={"email": None, "email_verified": None}),
        Misbehaviour(claims={"aud": [CLIENT, "another"], "azp": CLIENT}),
        Misbehaviour(metadata={"userinfo_endpoint": None}),
        Misbehaviour(metadata={"authorization_response_iss_parameter_supported": None}, query={"iss": None}),
    ],
    ids=["secret-in-the-form", "address-in-userinfo", "two-audiences", "no-userinfo", "unnamed-answers"],
)
def test_providers_differ(database: Database, other: Provider, visit: Visit, wrong: Misbehaviour) -> None:
    other.wrong = wrong
    assert entered(database, visit.finish(visit.back())) is not None


NOT_VALID = "ID token is not valid"
LIES: dict[str, tuple[Callable[[Provider], Misbehaviour], str]] = {
    "wrong-nonce": (lambda _: Misbehaviour(claims={"nonce": "another"}), NOT_VALID),
    "no-nonce": (lambda _: Misbehaviour(claims={"nonce": None}), NOT_VALID),
    "wrong-aud": (lambda _: Misbehaviour(claims={"aud": "another"}), NOT_VALID),
    "aud-of-others": (lambda _: Misbehaviour(claims={"aud": ["another", "third"]}), NOT_VALID),
    "aud-without-azp": (lambda _: Misbehaviour(claims={"aud": [CLIENT, "another"]}), NOT_VALID),
    "wrong-azp": (lambda _: Misbehaviour(claims={"azp": "another"}), NOT_VALID),
    "no-aud": (lambda _: Misbehaviour(claims={"aud": None}), NOT_VALID),
    "wrong-iss": (lambda _: Misbehaviour(claims={"iss": "https://evil.example"}), NOT_VALID),
    "iss-with-slash": (lambda it: Misbehaviour(claims={"iss": f"{it.url}/"}), NOT_VALID),
    "no-iss": (lambda _: Misbehaviour(claims={"iss": None}), NOT_VALID),
    "expired": (lambda _: Misbehaviour(claims={"exp": int(AT.timestamp()) - 3600}), NOT_VALID),
    "no-exp": (lambda _: Misbehaviour(claims={"exp": None}), NOT_VALID),
    "exp-is-text": (lambda _: Misbehaviour(claims={"exp": "never"}), NOT_VALID),
    "exp-is-infinite": (lambda _: Misbehaviour(claims={"exp": float("inf")}), NOT_VALID),
    "from-the-future": (lambda _: Misbehaviour(claims={"nbf": int(AT.timestamp()) + 3600}), NOT_VALID),
    "no-sub": (lambda _: Misbehaviour(claims={"sub": None}), NOT_VALID),
    "other-access-token": (lambda _: Misbehaviour(claims={"at_hash": "AAAA"}), NOT_VALID),
    "alg-none": (lambda _: Misbehaviour(header={"alg": "none"}, sign=lambda _: b""), NOT_VALID),
    "alg-None": (lambda _: Misbehaviour(header={"alg": "None"}, sign=lambda _: b""), NOT_VALID),
    "no-alg": (lambda _: Misbehaviour(header={"alg": None}), NOT_VALID),
    "hs256-with-the-public-key": (
        lambda it: Misbehaviour(header={"alg": "HS256"}, sign=lambda text: by_hmac(it.public, text)),
        NOT_VALID,
    ),
    "hs256-with-the-client-secret": (
        lambda _: Misbehaviour(header={"alg": "HS256"}, sign=lambda text: by_hmac(SECRET.encode(), text)),
        NOT_VALID,
    ),
    "hs256-with-a-published-secret": (
        lambda _: Misbehaviour(
            header={"alg": "HS256", "kid": "shared"},
            sign=lambda text: by_hmac(b"a secret that everybody may read", text),
        ),
        NOT_VALID,
    ),
    "other-key": (lambda _: Misbehaviour(sign=lambda text: by_rsa(other_key(), text)), NOT_VALID),
    "unknown-kid": (lambda _: Misbehaviour(header={"kid": "second"}), NOT_VALID),
    "key-in-the-header": (
        lambda _: Misbehaviour(
            header={"kid": None, "jwk": {"kty": "oct", "k": "AAAA"}},
            sign=lambda text: by_rsa(other_key(), text),
        ),
        NOT_VALID,
    ),
    "critical-extension": (lambda _: Misbehaviour(header={"crit": ["b64"], "b64": False}), NOT_VALID),
    "no-signature": (lambda _: Misbehaviour(sign=lambda _: b""), NOT_VALID),
    "no-token": (lambda _: Misbehaviour(answers={"/token": text("{}")}), NOT_VALID),
    "no-keys": (lambda _: Misbehaviour(answers={"/keys": text('{"keys": {}}')}), NOT_VALID),
    "odd-keys": (lambda _: Misbehaviour(answers={"/keys": text('{"keys": [1, {"kty": "RSA"}]}')}), NOT_VALID),
    "unverified": (lambda _: Misbehaviour(claims={"email_verified": False}), "has not verified the address"),
    "verified-as-text": (lambda _: Misbehaviour(claims={"email_verified": "true"}), "has not verified"),
    "verification-unknown": (lambda _: Misbehaviour(claims={"email_verified": None}), "has not verified"),
    "no-address": (
        lambda _: Misbehaviour(claims={"email": None}, userinfo={"email": None}),
        "does not say your email address",
    ),
    "address-is-no-text": (lambda _: Misbehaviour(claims={"email": ["mia@example.org"]}), "does not say"),
    "address-of-another": (
        lambda _: Misbehaviour(claims={"email": None}, userinfo={"sub": "dan"}),
        "about another person",
    ),
    "unknown-user": (lambda _: Misbehaviour(claims={"email": "eve@example.org"}), "No user here has"),
    "user-without-address": (lambda _: Misbehaviour(claims={"email": "Dan"}), "has the address Dan"),
    "markup-as-address": (lambda _: Misbehaviour(claims={"email": "<b>@x.org"}), "address &lt;b&gt;@x.org"),
    "two-addresses": (
        lambda _: Misbehaviour(claims={"email": "mia@example.org\n,eve@example.org"}),
        "No user here has",
    ),
    "mixed-up-provider": (lambda _: Misbehaviour(query={"iss": "https://evil.example"}), "another provider"),
    "unnamed-provider": (lambda _: Misbehaviour(query={"iss": None}), "does not name the provider"),
    "no-code": (lambda _: Misbehaviour(query={"code": None}), "sent no code"),
    "made-up-code": (lambda _: Misbehaviour(query={"code": "made up"}), "refused the login (invalid_grant)"),
    "made-up-state": (lambda _: Misbehaviour(query={"state": "made up"}), "was not begun here"),
    "no-state": (lambda _: Misbehaviour(query={"state": None}), "was not begun here"),
    "denied": (lambda _: Misbehaviour(query={"error": "access_denied"}), "log you in (access_denied)"),
    "markup-as-error": (lambda _: Misbehaviour(query={"error": "<img src=x>"}), "(img srcx)"),
    "token-500": (lambda _: Misbehaviour(answers={"/token": text("no", 500)}), "refused the login (500)"),
    "token-redirects": (lambda _: Misbehaviour(answers={"/token": text("", 307)}), "refused the login (307)"),
    "token-is-text": (lambda _: Misbehaviour(answers={"/token": text("hello")}), "makes no sense"),
    "token-is-a-list": (lambda _: Misbehaviour(answers={"/token": text("[1]")}), "makes no sense"),
    "token-is-deep": (lambda _: Misbehaviour(answers={"/token": text("[" * 200_000)}), "makes no sense"),
    "token-is-huge": (lambda _: Misbehaviour(answers={"/token": text("x" * 300_000)}), "too large"),
    "keys-are-huge": (lambda _: Misbehaviour(answers={"/keys": text("x" * 300_000)}), "too large"),
    "keys-500": (lambda _: Misbehaviour(answers={"/keys": text("no", 500)}), "refused the login (500)"),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_nobody_enters_with_a_lie(database: Database, other: Provider, visit: Visit, lie: str) -> None:
    wrong, said = LIES[lie]
    other.wrong = wrong(other)
    answer = visit.finish(visit.back())
    assert answer.status_code == 403
    assert said in answer.text
    assert COOKIE not in answer.cookies
    assert 'href="/login/oidc">Log in with Our &amp; login</a>' in answer.text


BEGINNINGS: dict[str, tuple[Misbehaviour, str]] = {
    "another-issuer": (Misbehaviour(metadata={"issuer": "https://evil.example"}), "calls itself by another"),
    "plain-http": (Misbehaviour(metadata={"token_endpoint": "http://evil.example/"}), "token_endpoint is"),
    "no-keys": (Misbehaviour(metadata={"jwks_uri": None}), "jwks_uri is missing or not https"),
    "odd-address": (Misbehaviour(metadata={"jwks_uri": "https://[/"}), "jwks_uri is missing"),
    "script": (Misbehaviour(metadata={"authorization_endpoint": "javascript:x"}), "is missing or"),
    "500": (Misbehaviour(answers={"/.well-known/openid-configuration": text("", 500)}), "(500)"),
    "huge": (Misbehaviour(answers={"/.well-known/openid-configuration": text("x" * 300_000)}), "too large"),
}  # fmt: skip


@pytest.mark.parametrize("case", BEGINNINGS)
def test_login_does_not_begin_at_an_odd_provider(other: Provider, visit: Visit, case: str) -> None:
    other.wrong, said = BEGINNINGS[case]
    answer = visit.begin()
    assert answer.status_code == 502
    assert said in answer.text


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/token", "/keys"])
def test_slow_provider_ends_the_login(
    other: Provider, visit: Visit, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc, "_SECONDS", 0.2)
    other.wrong = Misbehaviour(slow=path)
    answer = visit.begin() if path.startswith("/.") else visit.finish(visit.back())
    assert "The provider does not answer. Try again later." in answer.text
    assert COOKIE not in answer.cookies


def test_absent_provider_is_said(consoles: Consoles) -> None:
    absent = Provider()
    absent.url = "http://127.0.0.1:1"
    with consoles.start(absent) as visit:
        assert "The provider cannot be reached. Try again later." in visit.begin().text


def test_wrong_client_secret_is_said(consoles: Consoles, other: Provider) -> None:
    other.wrong = Misbehaviour()
    with consoles.start(other, "another") as visit:
        assert "refused the login (invalid_client)" in visit.finish(visit.back()).text


def test_answer_works_once(database: Database, visit: Visit) -> None:
    url = visit.back()
    assert entered(database, visit.finish(url)) is not None
    assert visit.finish(url).status_code == 403


def test_code_works_once_even_in_a_new_login(visit: Visit) -> None:
    used = dict(parse_qsl(urlsplit(visit.back()).query))
    assert visit.finish(f"/login/oidc/callback?{urlencode(used)}").status_code == 200
    fresh = dict(parse_qsl(urlsplit(visit.back()).query))
    answer = visit.finish(f"/login/oidc/callback?{urlencode(fresh | {'code': used['code']})}")
    assert "refused the login (invalid_grant)" in answer.text


def test_stolen_code_is_useless_in_another_login(consoles: Consoles, other: Provider, visit: Visit) -> None:
    """The verifier (PKCE) belongs to the login that the code was made for."""
    stolen = dict(parse_qsl(urlsplit(visit.back()).query))["code"]
    with consoles.start(other) as thief:
        own = dict(parse_qsl(urlsplit(thief.back()).query))
        answer = thief.finish(f"/login/oidc/callback?{urlencode(own | {'code': stolen})}")
    assert "refused the login (invalid_grant)" in answer.text


def test_answer_belongs_to_the_browser_that_began(visit: Visit) -> None:
    """Somebody who plants their own answer in your browser does not make you work in their name."""
    url = visit.back()
    visit.client.cookies.clear()
    assert visit.finish(url).status_code == 403
    visit.client.cookies.set(f"{COOKIE}-oidc", "x" * 43)
    assert visit.finish(url).status_code == 403


def test_old_answer_is_refused(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    from mailer.console import oidc_login

    monkeypatch.setattr(oidc_login, "_LIFETIME", -oidc_login._LIFETIME)
    assert visit.finish(visit.back()).status_code == 403


@pytest.mark.parametrize("query", ["next=https://evil.example", "next=//evil.example", "redirect_uri=//evil"])
def test_login_ends_on_our_own_page(other: Provider, visit: Visit, query: str) -> None:
    begun = visit.begin(f"?{query}")
    assert begun.headers["location"].startswith(f"{other.url}/authorize?")
    assert "evil" not in begun.headers["location"]
    answer = visit.finish(f"{visit.back()}&{query}")
    assert answer.headers["refresh"] == "0; url=/"
    assert "evil" not in answer.text


def test_logins_are_limited(visit: Visit) -> None:
    assert [visit.begin().status_code for _ in range(6)] == [303] * 5 + [429]


def test_users_have_addresses_of_their_own(database: Database) -> None:
    def add(name: str, password: str | None, email: str) -> None:
        with database.transaction() as connection:
            users.add_user(connection, name, Role.READER, password, email=email, at=AT)

    with pytest.raises(RefusedError, match="there is a user 'MIA@"):
        add("Eve", None, "MIA@example.org")
    with pytest.raises(SourceError, match="a user without a password needs an email address"):
        add("Eve", None, "")
    with pytest.raises(MailerError, match="eve"):
        add("Eve", None, "eve")


def test_user_without_a_password_cannot_use_the_form(database: Database) -> None:
    with database.transaction() as connection:
        assert users.log_in(connection, "Mia", "", "000000", at=AT) is None


def test_first_login_links_the_user_to_the_account(database: Database, other: Provider, visit: Visit) -> None:
    with database.transaction() as connection:
        accounts.unlink(connection, "Mia")
    for _ in range(2):
        assert entered(database, visit.finish(visit.back())) is not None
    with database.reading() as connection:
        assert [one.name for one in users.users(connection) if one.linked] == ["Mia"]
        latest = entries(connection, limit=3)
    assert [one.act for one in latest] == ["login", "login", "user.link"]
    assert (latest[-1].who, latest[-1].about) == ("Mia", "Mia")
    assert latest[-1].details == {"issuer": other.url, "subject": "mia"}


def test_address_that_somebody_else_has_now_does_not_log_them_in(
    database: Database, other: Provider, visit: Visit
) -> None:
    mine = entered(database, visit.finish(visit.back()))
    assert mine is not None
    other.wrong = Misbehaviour(claims={"sub": "eve"})
    answer = visit.finish(visit.back())
    assert answer.status_code == 403
    assert COOKIE not in answer.cookies
    assert "Mia has logged in with another account of the provider before." in answer.text
    assert "unlink the other (mailer users unlink Mia)." in answer.text
    with database.reading() as connection:
        (refused,) = entries(connection, act="login.refused", limit=1)
    assert (refused.who, refused.about) == ("Mia@Example.org", "Mia")
    assert refused.details == {"by": "oidc", "issuer": other.url, "subject": "eve"}
    other.wrong = Misbehaviour()
    assert entered(database, visit.finish(visit.back())) is not None
    with database.transaction() as connection:
        assert accounts.unlink(connection, "Mia")
        assert visitor_of(connection, mine.digest, AGENT, at=AT) is None
    other.wrong = Misbehaviour(claims={"sub": "eve"})
    assert entered(database, visit.finish(visit.back())) is not None
    with database.transaction() as connection:
        accounts.unlink(connection, "Mia")


@pytest.mark.parametrize("subject", ["", "x" * 256, "mi\u00e4", "mia\n", "mia\x00", 7, None])
def test_account_without_a_proper_name_is_refused(
    database: Database, other: Provider, visit: Visit, subject: object
) -> None:
    other.wrong = Misbehaviour(claims={"sub": subject})
    answer = visit.finish(visit.back())
    assert answer.status_code == 403
    assert entered(database, answer) is None
