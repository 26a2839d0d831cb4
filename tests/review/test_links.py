"""Links that answer and links that do not, asked of a real server; the names are faked."""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.review.links import Address, Answer, Life, check_links, is_public


class _Pages(BaseHTTPRequestHandler):
    """Each path says what becomes of it: /404, /redirect?TARGET, /nohead."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        host = self.headers["Host"].split(":")[0]
        self.server.asked.append(f"{self.command} {host}{self.path}")  # type: ignore[attr-defined]
        path, _, query = self.path.partition("?")
        status = int(path[1:]) if path[1:].isdecimal() else 200
        if path == "/nohead" and self.command == "HEAD":
            status = 405
        if path == "/redirect":
            status = 302
        self.send_response(status)
        if path == "/redirect":
            self.send_header("Location", query)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        return


class Site:
    """A web server on this machine, and the names under which the tests know it."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.port = server.server_address[1]
        self.asked: list[str] = []
        server.asked = self.asked  # type: ignore[attr-defined]
        self.names = {"site.example": ["127.0.0.1"], "inside.example": ["10.0.0.1"]}
        self.resolved: list[str] = []

    def resolve(self, host: str, port: int) -> list[str]:
        self.resolved.append(host)
        if host in self.names:
            return self.names[host]
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            raise OSError("Name or service not known") from None

    def url(self, path: str, host: str = "site.example") -> str:
        return f"http://{host}:{self.port}{path}"

    def check(self, *urls: str) -> list[Answer]:
        return check_links(urls, resolve=self.resolve, permitted=_public_or_ours)


def _public_or_ours(address: Address) -> bool:
    return str(address) == "127.0.0.1" or is_public(address)


@pytest.fixture
def site() -> Iterator[Site]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Pages) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Site(server)
        server.shutdown()
        thread.join()


def test_page_that_answers_is_alive_and_asked_once(site: Site) -> None:
    assert site.check(site.url("/page?a=b c")) == [Answer(site.url("/page?a=b c"), Life.ALIVE, "200 OK")]
    assert site.asked == ["HEAD site.example/page?a=b%20c"]


def test_missing_page_is_dead(site: Site) -> None:
    [answer] = site.check(site.url("/404"))
    assert (answer.life, answer.said) == (Life.DEAD, "404 Not Found")


def test_refused_head_is_asked_by_get(site: Site) -> None:
    [answer] = site.check(site.url("/nohead"))
    assert answer.life is Life.ALIVE
    assert site.asked == ["HEAD site.example/nohead", "GET site.example/nohead"]


def test_server_that_lets_no_program_in_is_unsure(site: Site) -> None:
    assert [answer.life for answer in site.check(site.url("/403"), site.url("/429"))] == [Life.UNSURE] * 2


def test_redirects_are_followed_to_their_end(site: Site) -> None:
    [answer] = site.check(site.url("/redirect?/redirect?/404"))
    assert answer.life is Life.DEAD
    assert answer.said.startswith("404 Not Found at http://site.example:")


def test_circle_of_redirects_ends(site: Site) -> None:
    circle = site.url("/redirect?" + "/redirect?" * 9)
    [answer] = site.check(circle)
    assert answer.life is Life.DEAD
    assert "redirects" in answer.said


def test_redirect_into_the_own_network_is_not_followed(site: Site) -> None:
    hops = [
        site.url(f"/redirect?http://{host}/")
        for host in ("10.0.0.1", "169.254.169.254", "[::1]", "inside.example", "2130706433")
    ]
    answers = site.check(*hops)
    assert [answer.life for answer in answers] == [Life.DEAD] * len(hops)
    assert all("site.example" in asked for asked in site.asked)


def test_redirect_out_of_the_web_is_not_followed(site: Site) -> None:
    [answer] = site.check(site.url("/redirect?file:///etc/passwd"))
    assert (answer.life, "not a web page" in answer.said) == (Life.DEAD, True)


def test_loopback_is_refused_unless_it_is_permitted(site: Site) -> None:
    [answer] = check_links([site.url("/page")], resolve=site.resolve)
    assert answer.said == "site.example is 127.0.0.1, which is not a public address"
    assert site.asked == []


def test_one_private_address_among_public_ones_is_enough_to_refuse(site: Site) -> None:
    site.names["mixed.example"] = ["93.184.216.34", "192.168.1.1"]
    [answer] = site.check(site.url("/page", "mixed.example"))
    assert answer.said == "mixed.example is 192.168.1.1, which is not a public address"


def test_name_is_resolved_once_for_a_connection(site: Site) -> None:
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])

    def rebinding(host: str, port: int) -> list[str]:
        return next(answers)

    [answer] = check_links([site.url("/page")], resolve=rebinding, permitted=_public_or_ours)
    assert answer.life is Life.ALIVE
    assert next(answers) == ["10.0.0.1"]


def test_second_hop_to_a_rebound_name_is_refused(site: Site) -> None:
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])
    [answer] = check_links(
        [site.url(f"/redirect?{site.url('/page')}")],
        resolve=lambda host, port: next(answers),
        permitted=_public_or_ours,
    )
    assert "10.0.0.1, which is not a public address" in answer.said


def test_unknown_host_and_closed_port_are_dead(site: Site) -> None:
    site.names["closed.example"] = ["127.0.0.1"]
    unknown, closed = site.check("http://nowhere.example/", "http://closed.example:1/")
    assert unknown.said == "no such host: nowhere.example"
    assert closed.said.startswith("no connection")


def test_order_is_kept_and_the_same_link_asked_once(site: Site) -> None:
    urls = [site.url(f"/page?{number}") for number in range(30)]
    answers = site.check(*urls, *urls)
    assert [answer.url for answer in answers] == urls
    assert len(site.asked) == 30


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "224.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fc00::1", "fec0::1", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:93.184.216.34", "64:ff9b::a00:1", "2002:7f00:1::",
        "2002:808:808::", "2001:db8::1",
        "::127.0.0.1", "::10.1.2.3", "::8.8.8.8", "::ffff:0:127.0.0.1",
        "64:ff9b::127.0.0.1", "64:ff9b:1::7f00:1",
        "fe80::5efe:127.0.0.1", "2001:0:7f00:1::", "2001:0:808:808::",
        "3fff::1", "5f00::1", "100::1", "4000::1",
    ],
)  # fmt: skip
def test_address_that_is_not_of_the_internet(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::8.8.8.8"]
)
def test_address_of_the_internet(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@given(st.ip_addresses(v=4))
def test_ipv6_form_of_an_address_is_never_more_public(address: ipaddress.IPv4Address) -> None:
    forms = [
        0xFFFF00000000 | int(address),
        0x0064FF9B << 96 | int(address),
        0x2002 << 112 | int(address) << 80,
        int(address),
        0xFFFF0000 << 32 | int(address),
    ]
    for form in forms:
        assert is_public(address) or not is_public(ipaddress.IPv6Address(form))
