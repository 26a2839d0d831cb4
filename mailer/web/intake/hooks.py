"""Webhooks of email providers: `POST /hooks/PROVIDER`."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import httpx
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from mailer.bounces.providers.events import EventKind
from mailer.bounces.providers.proofs import Secrets, WebhookError
from mailer.bounces.providers.requests import Request as WebhookRequest
from mailer.bounces.providers.webhooks import PROVIDERS, admit, parse_webhook
from mailer.bounces.record import Rules, record_events
from mailer.config import Webhooks
from mailer.database.engine import Database
from mailer.tokens import Signer
from mailer.web.forms import client_ip, network

PREFIX: Final = "/hooks/"
_TIMEOUT_SECONDS: Final = 10
_CERTIFICATES_KEPT: Final = 16
_MAX_FETCHED_OCTETS: Final = 65_536
_THREADS: Final = 4
MOST_IN_PROGRESS: Final = 50
"""The most simultaneous requests of one client."""
_REFUSED: Final = RateLimitItemPerMinute(60)
"""The most refused requests of one client; genuine requests of providers are not refused."""
_BETWEEN_LINES: Final = timedelta(minutes=1)
_log = logging.getLogger(__name__)


class Fetcher:
    """Fetches certificates and caches the last few: a changed certificate has a new URL."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def get(self, url: str) -> bytes:
        """Return the octets at a URL that has been checked. Raises `WebhookError` 503 if that fails."""
        with self._lock:
            if url in self._kept:
                return self._kept[url]
        content = fetch(url)
        with self._lock:
            while len(self._kept) >= _CERTIFICATES_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[url] = content
        return content


def fetch(url: str) -> bytes:
    """Return at most 64 KiB from a URL, without following redirects.

    Raises `WebhookError` 503 if that fails.
    """
    content = b""
    try:
        with httpx.stream("GET", url, timeout=_TIMEOUT_SECONDS, follow_redirects=False) as answer:
            answer.raise_for_status()
            for chunk in answer.iter_bytes():
                content += chunk
                if len(content) > _MAX_FETCHED_OCTETS:
                    raise WebhookError(503, f"{url.partition('?')[0]} is too large")
    except httpx.HTTPError as error:
        raise WebhookError(503, f"{url.partition('?')[0]} cannot be fetched: {error}") from error
    return content


def secrets_of(section: Webhooks, public_url: str) -> Secrets:
    """Return the secrets in the settings, by provider."""
    secrets = {
        "brevo": section.brevo,
        "mailersend": section.mailersend_signing_secret,
        "mailgun": section.mailgun_signing_key,
        "mailjet": section.mailjet,
        "mailtrap": section.mailtrap_signing_key,
        "mandrill": section.mandrill_webhook_key,
        "postmark": section.postmark,
        "resend": section.resend_signing_secret,
        "scaleway": section.scaleway,
        "ses": section.ses,
        "sparkpost": section.sparkpost,
    }
    return Secrets(
        values={
            "postal": section.postal_public_key,
            "sendgrid": section.sendgrid_public_key,
            **{name: secret.get_secret_value() for name, secret in secrets.items() if secret},
        },
        ses_topics=section.ses_topics,
        url=public_url.rstrip("/") + PREFIX,
        fetch=Fetcher().get,
    )


class RefusalLog:
    """Logs refused requests: for each provider, at most one line a minute, with the number left out.

    Anyone can send such requests. All unknown providers count as one.
    """

    def __init__(self) -> None:
        self._logged_at: dict[str, datetime] = {}
        self._left_out: Counter[str] = Counter()

    def add(self, provider: str, error: WebhookError, *, at: datetime) -> None:
        """Log a refusal, or count it for the next line."""
        name = provider if provider in PROVIDERS else "an unknown provider"
        logged_at = self._logged_at.get(name)
        if logged_at is not None and timedelta() <= at - logged_at < _BETWEEN_LINES:
            self._left_out[name] += 1
            return
        self._logged_at[name] = at
        others = self._left_out.pop(name, 0)
        more = f" ({others:,} more since the last line)" if others else ""
        _log.warning("webhook of %s refused with %d: %s%s", name, error.status, error.message, more)


class WebhookRoutes:
    """Takes providers' events: verified, then stored and applied before the response.

    Anyone can send requests here. So clients that keep sending refused requests are rejected unread, the
    number of simultaneous requests of a client is limited, and decoding has its own threads, so that it
    cannot block the pages.
    """

    def __init__(
        self,
        database: Database,
        signer: Signer,
        *,
        secrets: Secrets,
        rules: Rules,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._signer = signer
        self._secrets = secrets
        self._rules = rules
        self._clock = clock
        self._threads = CapacityLimiter(_THREADS)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._in_progress: Counter[str] = Counter()
        self._refusals = RefusalLog()

    def router(self) -> APIRouter:
        """Return the routes to mount."""
        router = APIRouter()
        router.add_api_route(PREFIX + "{provider}", self.take, methods=["POST"])
        router.add_api_route(PREFIX + "{provider}", self.exists, methods=["HEAD"])
        return router

    async def exists(self, provider: str) -> Response:
        """Answer 200: Mandrill checks a webhook's URL before it saves it."""
        return Response()

    async def take(self, provider: str, request: Request) -> Response:
        """Record a request's events. Answers 200 only once they are stored, so providers may discard them.

        The headers are checked before the body is read, and the body's signature before it is decoded.
        """
        client = network(client_ip(request))
        if not self._limiter.test(_REFUSED, client):
            error = WebhookError(429, "too many requests were refused")
            return self._refuse(provider, error, retry_after="60")
        if self._in_progress[client] >= MOST_IN_PROGRESS:
            error = WebhookError(429, "too many requests at the same time")
            return self._refuse(provider, error, retry_after="5")
        self._in_progress[client] += 1
        try:
            answer = await self._answer(provider, request)
        except WebhookError as error:
            answer = self._refuse(provider, error)
        finally:
            self._in_progress[client] -= 1
            if not self._in_progress[client]:
                del self._in_progress[client]
        if 400 <= answer.status_code < 500:
            self._limiter.hit(_REFUSED, client)
        return answer

    async def _answer(self, provider: str, request: Request) -> Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        limit = admit(provider, headers, self._secrets).max_octets
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise WebhookError(413, "the request is too large")
        return await to_thread.run_sync(self._take, provider, headers, bytes(body), limiter=self._threads)

    def _take(self, provider: str, headers: dict[str, str], body: bytes) -> Response:
        now = self._clock()
        events = parse_webhook(provider, WebhookRequest(headers, body, now), self._secrets)
        for event in events:
            if event.kind is EventKind.CONFIRM:
                fetch(event.url)
                _log.warning("confirmed the subscription of %s", event.provider)
        record_events(self._database, self._signer, events, at=now, rules=self._rules)
        return PlainTextResponse(f"{len(events)} taken\n")

    def _refuse(self, provider: str, error: WebhookError, *, retry_after: str = "") -> Response:
        self._refusals.add(provider, error, at=self._clock())
        answer = PlainTextResponse(error.message + "\n", error.status)
        if error.status == 401:
            answer.headers["www-authenticate"] = "Basic"
        if retry_after:
            answer.headers["retry-after"] = retry_after
        return answer
