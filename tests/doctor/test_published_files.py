"""The MTA-STS policy and the BIMI logo, downloaded from a local HTTPS server with its own authority."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from mailer.doctor import Finding, Names, fetching
from mailer.doctor.bimi import logo
from mailer.doctor.logo import MOST_OCTETS, faults
from mailer.doctor.receiving import published_policy
from tests.doctor.dns_server import name_server
from tests.smtp.test_dial import certificate, server_context

ZONE = """\
mta-sts.good.test. 3600 IN A 127.0.0.1
good.test. 3600 IN MX 10 mail.good.test.
logo.good.test. 3600 IN A 127.0.0.1
default._bimi.good.test. 3600 IN TXT "v=BIMI1; l=https://logo.good.test/brand.svg"
mta-sts.stranger.test. 3600 IN A 127.0.0.1
default._bimi.stranger.test. 3600 IN TXT "v=BIMI1; l=https://mta-sts.stranger.test/brand.svg"
"""
POLICY = "version: STSv1\r\nmode: enforce\r\nmx: mail.good.test\r\nmax_age: 2592000\r\n"
LOGO = (
    '<svg xmlns="http://www.w3.org/2000/svg" version="1.2" baseProfile="tiny-ps" viewBox="0 0 64 64">'
    '<title>Windowsill</title><defs><path id="leaf" d="M0 0h64v64H0z"/></defs>'
    '<use xmlns:xlink="http://www.w3.org/1999/xlink" xlink:href="#leaf" fill="url(#leaf)"/></svg>'
)


@dataclass
class Site:
    """What the server answers, and what it was asked for."""

    names: Names
    port: int = 0
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""
    drip_seconds: float = 0.0
    """The pause between two octets of the header; 0 answers without pauses."""
    asked: list[tuple[str, str]] = field(default_factory=list)
    """The hosts and paths."""

    def policy(self, content: str = POLICY, media_type: str = "text/plain") -> list[Finding]:
        self.headers, self.content = {"Content-Type": media_type}, content.encode()
        return list(published_policy(self.names, "good.test", port=self.port))

    def logo(self, content: str = LOGO, media_type: str = "image/svg+xml") -> list[Finding]:
        self.headers, self.content = {"Content-Type": media_type}, content.encode()
        return list(logo(self.names, "good.test", port=self.port))


@contextlib.contextmanager
def serving(site: Site, tls: ssl.SSLContext) -> Iterator[None]:
    """Run the HTTPS server in a thread."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append((self.headers["Host"], self.path))
            if site.drip_seconds:
                with contextlib.suppress(OSError):
                    for _ in range(200):
                        self.wfile.write(b"X")
                        time.sleep(site.drip_seconds)
            self.send_response(site.status)
            for name, value in site.headers.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(site.content)

        def log_message(self, *words: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *failure: None  # type: ignore[method-assign]
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    site.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Names]:
    with name_server(tmp_path_factory.mktemp("names"), ZONE) as server:
        yield Names(server)


@pytest.fixture
def site(names: Names, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The server for good.test; its authority is trusted, that of stranger.test's name is not."""
    authority = certificate("Test authority")
    path = tmp_path / "authority.pem"
    path.write_bytes(authority[0].public_bytes(serialization.Encoding.PEM))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    found = Site(names)
    context = server_context(certificate("mta-sts.good.test", authority), tmp_path)
    other_folder = tmp_path / "logo"
    other_folder.mkdir()
    other = server_context(certificate("logo.good.test", authority), other_folder)

    def choose(socket: ssl.SSLObject, name: str | None, before: ssl.SSLContext) -> None:
        if name == "logo.good.test":
            socket.context = other

    context.sni_callback = choose
    with serving(found, context):
        yield found


def said(findings: list[Finding]) -> list[str]:
    return [f"{one.level.value}: {one.message}" for one in findings]


def test_right_policy_is_downloaded_and_names_every_host(site: Site) -> None:
    assert said(site.policy()) == ["ok: the policy is in mode enforce and names every MX host"]
    assert site.asked == [("mta-sts.good.test", "/.well-known/mta-sts.txt")]


@pytest.mark.parametrize(
    ("content", "level", "phrase"),
    [
        (POLICY.replace("mail.", "other."), "problem", "does not name mail.good.test"),
        (POLICY.replace("2592000", "60"), "warning", "forget the policy after 60 seconds"),
        (POLICY.replace("enforce", "strict"), "problem", "servers cannot use the policy"),
        (POLICY.replace("max_age: 2592000\r\n", ""), "problem", "servers cannot use the policy"),
        (POLICY.replace("mx: mail.good.test", "mx: *.good.test"), "ok", "names every MX host"),
        ("mode", "problem", "servers cannot use the policy"),
        (POLICY + "x" * 64_000, "problem", "larger than 64,000 octets"),
    ],
)
def test_wrong_policies_are_found(site: Site, content: str, level: str, phrase: str) -> None:
    (found,) = said(site.policy(content))
    assert found.startswith(level)
    assert phrase in found


def test_policy_of_another_type_is_a_warning(site: Site) -> None:
    assert [one.level.value for one in site.policy(media_type="text/html")] == ["warning", "ok"]


@pytest.mark.parametrize("status", [301, 302, 307, 404, 500])
def test_redirects_and_errors_are_not_followed(site: Site, status: int) -> None:
    site.status = status
    site.headers = {"Location": f"https://logo.good.test:{site.port}/elsewhere"}
    (found,) = list(published_policy(site.names, "good.test", port=site.port))
    assert found.level.value == "problem"
    assert ("redirects" if status < 400 else f"HTTP {status}") in found.message
    assert len(site.asked) == 1


def test_certificate_for_another_name_is_refused(site: Site) -> None:
    (policy,) = list(published_policy(site.names, "stranger.test", port=site.port))
    (brand,) = list(logo(site.names, "stranger.test", port=site.port))
    assert "certificate is not trusted" in policy.message
    assert "certificate is not trusted" in brand.message
    assert site.asked == []


def test_host_without_an_address_is_a_problem(site: Site) -> None:
    (found,) = list(published_policy(site.names, "nowhere.test", port=site.port))
    assert found.message.endswith("mta-sts.nowhere.test has no address")


def test_server_that_answers_an_octet_at_a_time_ends_in_time(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_SECONDS", 0.5)
    site.drip_seconds = 0.05
    began = time.monotonic()
    (found,) = site.policy()
    assert time.monotonic() - began < 5
    assert "no whole answer within" in found.message


def test_right_logo_is_downloaded(site: Site) -> None:
    assert said(site.logo()) == [f"ok: the logo is a square SVG Tiny PS file of {len(LOGO)} octets"]
    assert site.asked == [("logo.good.test", "/brand.svg")]


def test_wrong_logos_are_warnings(site: Site) -> None:
    (typed,) = site.logo(media_type="text/xml")
    assert "its type is text/xml" in typed.message
    (large,) = site.logo(LOGO + " " * MOST_OCTETS)
    assert "larger than 32,768 octets" in large.message


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (LOGO.replace(' baseProfile="tiny-ps"', ""), 'its <svg> lacks version="1.2" baseProfile="tiny-ps"'),
        (LOGO.replace("<title>Windowsill</title>", ""), "it has no <title>"),
        (LOGO.replace("Windowsill", " "), "it has no <title>"),
        (LOGO.replace("0 0 64 64", "0 0 64 32"), "it is not square: 64 by 32"),
        (LOGO.replace(' viewBox="0 0 64 64"', ""), "its <svg> has no viewBox with four numbers"),
        (LOGO.replace("0 0 64 64", "0 0 nan x"), "its <svg> has no viewBox with four numbers"),
        (LOGO.replace("viewBox", 'x="0" viewBox'), "its <svg> must not have x or y"),
        (LOGO.replace("<defs>", "<script>1</script><defs>"), "it contains <script>"),
        (LOGO.replace("<defs>", "<animate/><image/><defs>"), "it contains <animate>, <image>"),
        (LOGO.replace("<defs>", '<g onload="x()"/><defs>'), "it contains event handlers"),
        (LOGO.replace("#leaf", "https://else.test/#leaf", 1), "it refers to something outside the file"),
        (LOGO.replace("url(#leaf)", "url('data:x')"), "it refers to something outside the file"),
        ('<!DOCTYPE svg [<!ENTITY a "b">]>' + LOGO, "it has a DOCTYPE"),
        ("<html/>", "its first element is not <svg> in the namespace of SVG"),
    ],
)
def test_each_fault_of_a_logo_is_named(content: str, fault: str) -> None:
    assert list(faults(content.encode())) == [fault]


def test_compressed_logos_are_unpacked_within_bounds() -> None:
    assert list(faults(gzip.compress(LOGO.encode()))) == []
    assert list(faults(gzip.compress(b" " * 50_000_000))) == ["it is larger than 32 KB"]
    assert list(faults(b"\x1f\x8bnonsense")) == ["it is compressed, but not by gzip"]
    bomb = "<!DOCTYPE svg [<!ENTITY a 'aaaa'>" + "".join(
        f"<!ENTITY {chr(98 + n)} '{f'&{chr(97 + n)};' * 20}'>" for n in range(15)
    )
    assert list(faults(f"{bomb}]>{LOGO.replace('Windowsill', '&p;')}".encode()))
