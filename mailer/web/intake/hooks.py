"""What mail providers call: `POST /hooks/PROVIDER`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import httpx
from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from mailer.bounces.providers.signatures import Secrets, WebhookError
from mailer.bounces.providers.tables import EventKind
from mailer.bounces.providers.webhooks import MAX_BODY_OCTETS, parse_webhook
from mailer.bounces.record import Rules, record_events
from mailer.config import Webhooks
from mailer.database.session import Database
from mailer.tokens import Signer

PREFIX: Final = "/hooks/"
_TIMEOUT_SECONDS: Final = 10
_CERTIFICATES_KEPT: Final = 16
_log = logging.getLogger(__name__)


class Certificates:
    """Fetches certificates, and keeps the last few: Amazon's name changes when its content does."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def get(self, url: str) -> bytes:
        """Return the octets at a URL that has been checked; raises `WebhookError` 503 when it fails."""
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
    """Return what is at a URL, following no redirect; raises `WebhookError` 503 when it fails."""
    try:
        answer = httpx.get(url, timeout=_TIMEOUT_SECONDS, follow_redirects=False)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise WebhookError(503, f"{url.partition('?')[0]} cannot be fetched: {error}") from error
    return answer.content


def secrets_of(section: Webhooks) -> Secrets:
    """Return what the settings say the providers prove themselves with."""
    basic = {"postmark": section.postmark, "sparkpost": section.sparkpost, "mailjet": section.mailjet}
    key = section.mailgun_signing_key
    return Secrets(
        ses_topics=section.ses_topics,
        sendgrid_public_key=section.sendgrid_public_key,
        mailgun_signing_key=key.get_secret_value() if key else "",
        basic={name: secret.get_secret_value() for name, secret in basic.items() if secret},
        certificate=Certificates().get,
    )


class WebhookRoutes:
    """Takes providers' events: verified, then stored and acted upon before the answer is given."""

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

    def router(self) -> APIRouter:
        """Return the route to mount."""
        router = APIRouter()
        router.add_api_route(PREFIX + "{provider}", self.take, methods=["POST"])
        return router

    async def take(self, provider: str, request: Request) -> Response:
        """Record a request's events; 200 only once they are kept, so the provider may forget them."""
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_OCTETS:
                return _refusal(413, "the request is too large")
        headers = {name.lower(): value for name, value in request.headers.items()}
        return await run_in_threadpool(self._take, provider, headers, bytes(body))

    def _take(self, provider: str, headers: dict[str, str], body: bytes) -> Response:
        now = self._clock()
        try:
            events = parse_webhook(provider, headers, body, self._secrets, now)
            for event in events:
                if event.kind is EventKind.CONFIRM:
                    fetch(event.url)
                    _log.warning("confirmed the subscription of %s", event.provider)
        except WebhookError as error:
            _log.warning("webhook refused with %d: %s", error.status, error.message)
            return _refusal(error.status, error.message)
        record_events(self._database, self._signer, events, at=now, rules=self._rules)
        return PlainTextResponse(f"{len(events)} taken\n")


def _refusal(status: int, message: str) -> Response:
    answer = PlainTextResponse(message + "\n", status)
    if status == 401:
        answer.headers["www-authenticate"] = "Basic"
    return answer
