"""Checking the links in an issue, without letting an issue reach into this network.

Each URL is requested with HEAD, then with GET if that is refused. We follow redirects ourselves and check
every hop like the first. A host is resolved once, and the connection goes to the address that was checked,
so a name server cannot give one answer to the check and another to the connection (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Final
from urllib.parse import quote, urljoin, urlsplit

import httpcore

from mailer.smtp.tls import client_context

PARALLEL: Final = 8
MAX_REDIRECTS: Final = 5
MAX_LINKS: Final = 500
TIMEOUT_SECONDS: Final = 10.0
"""For each step: connect, TLS handshake, first line of the response."""
DEADLINE_SECONDS: Final = 30.0
"""For one URL with all its redirects."""
_USER_AGENT: Final = b"mailer-lint/1 (checks the links of a newsletter)"
_READER_AGENT: Final = b"mailer/1 (reads a feed for a newsletter)"
# Statuses that servers send to programs, even for pages that exist.
_UNSURE: Final = frozenset({401, 403, 405, 406, 407, 408, 425, 429, 451, 500, 502, 503, 504, 999})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], list[str]]


class Life(StrEnum):
    """The state of a link."""

    ALIVE = "alive"
    UNSURE = "unsure"
    """The server answers, but refuses programs."""
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Answer:
    """The response to a URL, or why there was none."""

    url: str
    life: Life
    said: str


class UrlError(Exception):
    """Raised for a URL that may not be requested, or whose host does not exist."""


def check_links(
    urls: Iterable[str],
    *,
    resolve: Resolve | None = None,
    permitted: Callable[[Address], bool] | None = None,
    parallel: int = PARALLEL,
) -> list[Answer]:
    """Check each URL, up to `MAX_LINKS`, and return the answers in the same order.

    `resolve` returns a host's addresses and `permitted` says which of them may be contacted. By default
    that is the system's resolver, and public addresses only.
    """
    resolve, permitted = resolve or addresses_of, permitted or is_public
    wanted = list(dict.fromkeys(urls))[:MAX_LINKS]
    backend = _CheckedBackend(resolve, permitted)
    with (
        httpcore.ConnectionPool(
            ssl_context=client_context(), network_backend=backend, max_connections=parallel
        ) as pool,
        ThreadPoolExecutor(parallel, thread_name_prefix="links") as threads,
    ):
        return list(threads.map(lambda url: _answer(pool, url), wanted))


@dataclass(frozen=True, slots=True)
class Page:
    """The response to a GET; `content` is empty if nothing has changed."""

    status: int
    content: bytes
    etag: str
    modified: str


def read_page(
    url: str,
    *,
    etag: str = "",
    modified: str = "",
    max_octets: int,
    resolve: Resolve | None = None,
    permitted: Callable[[Address], bool] | None = None,
) -> Page:
    """Return what is at a URL, following redirects; `etag` and `modified` make the request conditional.

    Each hop is checked as in `check_links`. Raises `UrlError` if there is no such page, or if it is larger
    than `max_octets` or takes longer than `DEADLINE_SECONDS`.
    """
    backend = _CheckedBackend(resolve or addresses_of, permitted or is_public)
    conditions = [(b"If-None-Match", etag.encode())] if etag else []
    conditions += [(b"If-Modified-Since", modified.encode())] if modified else []
    hops, deadline = [url], time.monotonic() + DEADLINE_SECONDS
    try:
        with httpcore.ConnectionPool(ssl_context=client_context(), network_backend=backend) as pool:
            while len(hops) <= MAX_REDIRECTS + 1:
                page, location = _read(pool, hops[-1], conditions, max_octets, deadline)
                if page.status not in _REDIRECTS or not location:
                    break
                hops.append(urljoin(hops[-1], location))
            else:
                raise UrlError(f"more than {MAX_REDIRECTS} redirects")
    except httpcore.TimeoutException as error:
        raise UrlError(f"no answer within {TIMEOUT_SECONDS:.0f} s") from error
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol, OSError) as error:
        raise UrlError(f"no connection: {error or type(error).__name__}") from error
    if page.status not in (200, 304):
        raise UrlError(f"{page.status} {_phrase(page.status)}".strip())
    return page


def _read(
    pool: httpcore.ConnectionPool,
    url: str,
    conditions: list[tuple[bytes, bytes]],
    max_octets: int,
    deadline: float,
) -> tuple[Page, str]:
    """Return one response, and where it redirects to."""
    target = _target(url)
    timeout = dict.fromkeys(("connect", "read", "write", "pool"), TIMEOUT_SECONDS)
    headers = [(b"Host", _host_header(target)), (b"User-Agent", _READER_AGENT), (b"Accept", b"*/*")]
    headers += [(b"Connection", b"close"), *conditions]
    content = bytearray()
    with pool.stream("GET", target, headers=headers, extensions={"timeout": timeout}) as response:
        for part in response.iter_stream():
            content += part
            if len(content) > max_octets:
                raise UrlError(f"larger than {max_octets:,} bytes")
            if time.monotonic() > deadline:
                raise UrlError(f"no answer within {DEADLINE_SECONDS:.0f} s")
        found = {name.lower(): value.decode("latin-1") for name, value in response.headers}
    page = Page(
        response.status,
        bytes(content),
        _kept(found.get(b"etag", ""), 1_000),
        _kept(found.get(b"last-modified", ""), 100),
    )
    return page, quote(found.get(b"location", ""), safe="%/:=&?~#+!$,;'@()*[]")


def _kept(value: str, longest: int) -> str:
    """Return a header's value, or nothing if it is too long to be kept or not plain text."""
    return value if len(value) <= longest and value.isascii() and value.isprintable() else ""


def addresses_of(host: str, port: int) -> list[str]:
    """Return the addresses of a host from the system's resolver; raises `OSError`."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_public(address: Address) -> bool:
    """Return whether an address is public.

    An IPv6 address outside 2000::/3 is public only if it translates to a public IPv4 address (RFC 6052):
    IANA has assigned no other space to the internet. Tunnels to IPv4, 6to4 and Teredo, are never public:
    both are out of use (RFC 7526), and versions of Python differ about them.
    """
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address.sixtofour is not None or address.teredo is not None:
            return False
        if address not in _GLOBAL_UNICAST or address in _DOCUMENTATION:
            return False
    return address.is_global and not address.is_multicast


_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
# RFC 9637. Python 3.11 does not know it.
_DOCUMENTATION: Final = ipaddress.IPv6Network("3fff::/20")


def checked_addresses(
    host: str, port: int, *, resolve: Resolve, permitted: Callable[[Address], bool]
) -> list[str]:
    """Return the addresses of a host; raise `UrlError` if there are none or one is not permitted."""
    try:
        found = resolve(host, port)
    except (OSError, UnicodeError) as error:
        raise UrlError(f"no such host: {host}") from error
    if not found:
        raise UrlError(f"no such host: {host}")
    for text in found:
        # Only link-local addresses have a zone (`fe80::1%eth0`), and those are never permitted.
        if not permitted(ipaddress.ip_address(text.partition("%")[0])):
            raise UrlError(f"{host} is {text}, which is not a public address")
    return found


class _CheckedBackend(httpcore.SyncBackend):
    """Connects to permitted addresses only, and to exactly the address that was checked."""

    def __init__(self, resolve: Resolve, permitted: Callable[[Address], bool]) -> None:
        super().__init__()
        self._resolve = resolve
        self._permitted = permitted

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        found = checked_addresses(host, port, resolve=self._resolve, permitted=self._permitted)
        failure: Exception | None = None
        for text in found[:3]:
            try:
                return super().connect_tcp(text, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        assert failure is not None
        raise failure

    def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        raise UrlError("will not connect to a local socket")


def _answer(pool: httpcore.ConnectionPool, url: str) -> Answer:
    try:
        status, hops = _followed(pool, url)
    except UrlError as error:
        return Answer(url, Life.DEAD, str(error))
    except httpcore.TimeoutException:
        return Answer(url, Life.DEAD, f"no answer within {TIMEOUT_SECONDS:.0f} s")
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol, OSError) as error:
        return Answer(url, Life.DEAD, f"no connection: {error or type(error).__name__}")
    said = f"{status} {_phrase(status)}".strip() + (f" at {hops[-1]}" if len(hops) > 1 else "")
    if status < 400:
        return Answer(url, Life.ALIVE, said)
    return Answer(url, Life.UNSURE if status in _UNSURE else Life.DEAD, said)


def _followed(pool: httpcore.ConnectionPool, url: str) -> tuple[int, list[str]]:
    """Return the last status and the URLs along the way."""
    hops, deadline = [url], time.monotonic() + DEADLINE_SECONDS
    while True:
        for method in ("HEAD", "GET"):
            if time.monotonic() > deadline:
                raise UrlError(f"no answer within {DEADLINE_SECONDS:.0f} s")
            status, location = _asked(pool, method, hops[-1])
            if status < 400:
                break
        if status not in _REDIRECTS or not location:
            return status, hops
        if len(hops) > MAX_REDIRECTS:
            raise UrlError(f"more than {MAX_REDIRECTS} redirects")
        hops.append(urljoin(hops[-1], location))
        if hops[-1] in hops[:-1]:
            raise UrlError(f"redirects in a circle at {hops[-1]}")


def _asked(pool: httpcore.ConnectionPool, method: str, url: str) -> tuple[int, str]:
    """Return status and Location of one request, without reading the body."""
    target = _target(url)
    timeout = dict.fromkeys(("connect", "read", "write", "pool"), TIMEOUT_SECONDS)
    headers = [(b"Host", _host_header(target)), (b"User-Agent", _USER_AGENT), (b"Accept", b"*/*")]
    headers.append((b"Connection", b"close"))
    with pool.stream(method, target, headers=headers, extensions={"timeout": timeout}) as response:
        location = next((value for name, value in response.headers if name.lower() == b"location"), b"")
        return response.status, quote(location.decode("utf-8", "replace"), safe="%/:=&?~#+!$,;'@()*[]")


def _target(url: str) -> httpcore.URL:
    """Return the URL to request; raise `UrlError` unless it is an http or https URL."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").encode("idna"), parts.port
    except (ValueError, UnicodeError) as error:
        raise UrlError(f"not an address: {error}") from error
    if parts.scheme not in ("http", "https") or not host:
        raise UrlError(f"leads to {url[:80]}, which is not a web page")
    path = quote(parts.path or "/", safe="%/:=&~+!$,;'@()*[]")
    query = quote(parts.query, safe="%/:=&?~+!$,;'@()*[]")
    target = f"{path}?{query}" if query else path
    return httpcore.URL(scheme=parts.scheme.encode(), host=host, port=port, target=target.encode())


def _host_header(target: httpcore.URL) -> bytes:
    host = b"[" + target.host + b"]" if b":" in target.host else target.host
    return host if target.port is None else host + b":%d" % target.port


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
