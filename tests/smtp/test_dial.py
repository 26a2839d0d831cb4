from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mailer.config import Relay, Security
from mailer.errors import RelayDownError, RelayError
from mailer.smtp.session import Attempt, End, Fate, SmtpSession, Timeouts
from mailer.smtp.tls import client_context
from tests.smtp.scripted import EHLO, Script, run_async, serving
from tests.smtp.test_session import outgoing, supply

pytestmark = pytest.mark.usefixtures("each_loop")

STARTTLS = b"250-test.example\r\n250-STARTTLS\r\n250 PIPELINING\r\n"
AUTH = b"250-test.example\r\n250-AUTH PLAIN\r\n250 PIPELINING\r\n"


Pair = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def certificate(
    name: str, issuer: Pair | None = None, *, lasts: datetime.timedelta = datetime.timedelta(days=1)
) -> Pair:
    """Return a certificate for 127.0.0.1, or an authority when there is no issuer, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    signer = issuer[1] if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + lasts)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    if issuer is None:
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
    else:
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    return builder.sign(signer, hashes.SHA256()), key


def server_context(pair: Pair, folder: Path) -> ssl.SSLContext:
    """Return the context of a server that shows this certificate."""
    leaf, key = pair
    path = folder / f"{leaf.serial_number}.pem"
    path.write_bytes(
        leaf.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(path)
    return server


def trusting(authority: Pair) -> ssl.SSLContext:
    """Return the context of a client that trusts an authority."""
    client = client_context()
    client.load_verify_locations(cadata=authority[0].public_bytes(serialization.Encoding.PEM).decode())
    return client


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the context of a server with a certificate, and one of a client that trusts its issuer."""
    authority = certificate("Test authority")
    leaf = certificate("127.0.0.1", authority)
    return server_context(leaf, tmp_path_factory.mktemp("tls")), trusting(authority)


def connect(
    script: Script,
    *,
    context: ssl.SSLContext | None = None,
    server: ssl.SSLContext | None = None,
    password: str = "",
    **changes: Any,
) -> list[Attempt]:
    """Send three messages over a connection opened with these changes to the relay."""

    async def go() -> list[Attempt]:
        outcomes: list[Attempt] = []
        async with serving(script, server) as relay:
            relay = msgspec.structs.replace(relay, **changes)
            session = await SmtpSession.open(
                relay,
                password=password,
                tls=context,
                client_name="here.example",
                timeouts=Timeouts(greeting=2),
            )
            assert await session.run(supply(map(outgoing, (1, 2, 3))), outcomes.append) is End.DRAINED
            await session.close()
        return outcomes

    return run_async(go())


def test_tls_from_the_first_octet(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    script = Script()
    outcomes = connect(script, server=tls[0], context=tls[1])
    assert [outcome.fate for outcome in outcomes] == [Fate.ACCEPTED] * 3
    assert len(script.accepted) == 3


def test_large_bodies_arrive_whole_over_tls(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async def go() -> list[Attempt]:
        outcomes: list[Attempt] = []
        async with serving(script, tls[0]) as relay:
            session = await SmtpSession.open(relay, tls=tls[1])
            assert await session.run(supply(outgoing(key, large) for key in (1, 2, 3)), outcomes.append)
            await session.close()
        return outcomes

    large = b"0123456789abcdef" * 4 + b"\r\n"
    large *= 30_000
    script = Script()
    assert [outcome.fate for outcome in run_async(go())] == [Fate.ACCEPTED] * 3
    assert script.bodies == [large] * 3


def test_starttls_greets_again_and_forgets_what_was_said_before(
    tls: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    script = Script(starttls=tls[0])
    script.answer = lambda verb, nth: STARTTLS if (verb, nth) == ("EHLO", 1) else None
    outcomes = connect(script, context=tls[1], security=Security.STARTTLS)
    assert [outcome.fate for outcome in outcomes] == [Fate.ACCEPTED] * 3
    assert script.commands[:4] == [
        "EHLO here.example",
        "STARTTLS",
        "EHLO here.example",
        "MAIL FROM:<b.1@bounce.example> SIZE=21 RET=HDRS",
    ]


def test_plaintext_slipped_in_before_tls_is_not_believed(
    tls: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    script = Script(starttls=tls[0])
    injected = b"220 go on\r\n250-evil.example\r\n250 AUTH PLAIN\r\n"
    script.answer = lambda verb, nth: (
        STARTTLS if (verb, nth) == ("EHLO", 1) else injected if verb == "STAR" else None
    )
    with pytest.raises(RelayError, match="AUTH"):
        connect(script, context=tls[1], security=Security.STARTTLS, user="me", password="secret")
    assert not any(line.startswith("AUTH") for line in script.commands)


def test_missing_starttls_sends_nothing() -> None:
    script = Script()
    with pytest.raises(RelayError, match="does not offer STARTTLS") as caught:
        connect(script, security=Security.STARTTLS, user="me", password="secret")
    assert not isinstance(caught.value, RelayDownError)
    assert script.commands[0] == "EHLO here.example"
    assert not any("AUTH" in line or "MAIL" in line for line in script.commands)


def test_starttls_refused_for_now_is_a_relay_to_wait_for(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    script = Script(ehlo=STARTTLS, answer=lambda verb, nth: b"454 later\r\n" if verb == "STAR" else None)
    with pytest.raises(RelayDownError, match="454"):
        connect(script, context=tls[1], security=Security.STARTTLS)


@pytest.mark.parametrize("security", [Security.TLS, Security.STARTTLS])
def test_certificate_that_is_not_trusted_is_an_error(
    tls: tuple[ssl.SSLContext, ssl.SSLContext], security: Security
) -> None:
    script = Script(ehlo=STARTTLS, starttls=tls[0])
    with pytest.raises(RelayError, match="certificate is not trusted") as caught:
        connect(
            script,
            context=client_context(),
            server=tls[0] if security is Security.TLS else None,
            security=security,
        )
    assert not isinstance(caught.value, RelayDownError)
    assert not any("MAIL" in line for line in script.commands)


def test_certificate_is_not_looked_at_when_told_so(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    outcomes = connect(Script(), server=tls[0], context=client_context(verify=False))
    assert len(outcomes) == 3
    outcomes = connect(Script(), server=tls[0], verify_certificate=False)
    assert len(outcomes) == 3


def test_tls_towards_a_plain_port_names_the_setting() -> None:
    with pytest.raises(RelayError, match="does not speak TLS on this port; set security"):
        connect(Script(), security=Security.TLS)


def test_login_is_sent_before_mail() -> None:
    script = Script(ehlo=AUTH)
    assert len(connect(script, user="me", password="secret")) == 3
    assert script.commands[1] == "AUTH PLAIN AG1lAHNlY3JldA=="


@pytest.mark.parametrize("code", [b"535 5.7.8", b"530 5.7.0", b"550 5.7.1"])
def test_refused_login_is_our_configuration(code: bytes) -> None:
    script = Script(ehlo=AUTH, answer=lambda verb, nth: code + b" no\r\n" if verb == "AUTH" else None)
    with pytest.raises(RelayError, match=r"login refused: .*check user and password") as caught:
        connect(script, user="me", password="wrong")
    assert not isinstance(caught.value, RelayDownError)
    assert "wrong" not in str(caught.value)


def test_login_that_fails_for_now_is_a_relay_to_wait_for() -> None:
    script = Script(ehlo=AUTH, answer=lambda verb, nth: b"454 4.7.0 later\r\n" if verb == "AUTH" else None)
    with pytest.raises(RelayDownError, match="454"):
        connect(script, user="me", password="secret")


def test_login_where_none_is_offered_is_an_error() -> None:
    with pytest.raises(RelayError, match="AUTH") as caught:
        connect(Script(ehlo=EHLO), user="me", password="secret")
    assert not isinstance(caught.value, RelayDownError)


@pytest.mark.parametrize("host", ["mail.example.org", "192.0.2.1", "localhost.example.org"])
def test_password_never_travels_in_the_clear(host: str) -> None:
    relay = Relay(host="localhost", security=Security.PLAIN, user="me")
    # Past the settings, which refuse it as well.
    msgspec.structs.force_setattr(relay, "host", host)
    with pytest.raises(RelayError, match="will not send a password without TLS"):
        run_async(SmtpSession.open(relay, password="secret"))


def test_name_that_does_not_resolve_is_a_relay_that_is_down() -> None:
    relay = Relay(host="relay.invalid")
    with pytest.raises(RelayDownError, match=r"relay\.invalid:587: cannot be reached"):
        run_async(SmtpSession.open(relay))
