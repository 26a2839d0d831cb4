"""The web pages, through their public address: TLS, and List-Unsubscribe."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

import httpx

from mailer.config import is_loopback
from mailer.doctor.findings import Finding, ok, problem
from mailer.doctor.names import Names
from mailer.doctor.relays import expires_at, expiry
from mailer.smtp.tls import client_context

_SECONDS: Final = 15.0
_ONE_CLICK: Final = {"List-Unsubscribe": "One-Click"}


def pages(names: Names, public_url: str, *, at: datetime) -> Iterator[Finding]:
    """Request the pages as a mailbox provider would: health, certificate, and a one-click unsubscription.

    The token is invalid, so nobody is unsubscribed.
    """
    host = urlsplit(public_url).hostname or ""
    if is_loopback(host):
        yield problem(
            "pages",
            public_url,
            "only this machine can reach the pages, so readers cannot unsubscribe",
            remedy="set web.public_url to an https address that leads to `mailer serve`",
        )
    elif not names.addresses(host):
        yield problem(
            "pages",
            host,
            "the host of web.public_url has no address",
            remedy="publish it",
            record=f"{host}. IN A ADDRESS",
        )
        return
    try:
        # Reading the certificates of all authorities takes a while.
        verify = public_url.startswith("https:") and client_context()
        with httpx.Client(verify=verify, timeout=_SECONDS, trust_env=False) as client:
            yield from _requests(client, public_url, at=at)
    except httpx.HTTPError as error:
        yield problem(
            "pages",
            public_url,
            f"the pages cannot be reached ({reason(error)})",
            remedy="is `mailer serve` running, and does the proxy lead to it?",
        )


def reason(error: BaseException) -> str:
    """Return why a request failed, in the words of the system or of TLS."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {cause.verify_message}"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return "no answer in time" if isinstance(error, httpx.TimeoutException) else type(error).__name__


def _requests(client: httpx.Client, public_url: str, *, at: datetime) -> Iterator[Finding]:
    with client.stream("GET", f"{public_url}/healthz") as response:
        status = response.status_code
        body = next(response.iter_bytes(4096), b"").decode("ascii", "replace")
        end = expires_at(response.extensions["network_stream"].get_extra_info("ssl_object"))
    state, *tasks = body.splitlines() or [""]
    if failing := [task for task in tasks if ": failing since " in task]:
        yield problem(
            "pages",
            public_url,
            f"a task of the pages fails ({'; '.join(failing[:5])})",
            remedy="the log of `mailer serve` says why",
        )
    if state not in ("ok", "failing"):
        yield problem(
            "pages",
            public_url,
            f"{public_url}/healthz answers {status}, and not as mailer does",
            remedy="is `mailer serve` running, and does the proxy lead to it?",
        )
        return
    yield expiry("pages", public_url, "mailer answers", end, at=at)
    with client.stream("POST", f"{public_url}/u/doctor", data=_ONE_CLICK) as response:
        status = response.status_code
    if status == 404:
        yield ok("list-unsubscribe", public_url, "one-click requests reach mailer")
    else:
        yield problem(
            "list-unsubscribe",
            public_url,
            f"something in between answers one-click requests with {status} (RFC 8058)",
            remedy="let the proxy pass POST requests to /u/ on, without a redirect, a login or a challenge",
        )
