"""Outgoing webhooks: written with the fact, signed, retried until taken, visible and resendable."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from sqlalchemy import Connection, func, select, text

from mailer.address import parse_address
from mailer.audience import ledger, subscribers
from mailer.audience.privacy.erasing import erase
from mailer.audience.transitions import Origin
from mailer.database.engine import Database
from mailer.database.tables import WebhookDelivery, WebhookEvent
from mailer.delivery import control, issues
from mailer.errors import SourceError
from mailer.web.outgoing import deliver, forget
from mailer.webhooks import endpoints, queue
from mailer.webhooks.queue import HookState, Occurrence
from mailer.webhooks.signing import signature
from tests.delivery.scene import EDITION

SECRET = b"0" * 32
AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@dataclass
class Receiver:
    """Another program: answers with the next of `statuses`, then with 200."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    @property
    def types(self) -> list[str]:
        return [json.loads(body)["type"] for _, body in self.requests]


@pytest.fixture(scope="module")
def server() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
            status = receiver.statuses.pop(0) if receiver.statuses else 200
            if status == 0:
                time.sleep(0.5)
            with contextlib.suppress(OSError):
                self.send_response(status or 200)
                self.send_header("location", "http://127.0.0.1:1/")
                self.end_headers()

        def log_message(self, *arguments: object) -> None:
            return

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{listening.server_address[1]}/hook?a=1"
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield receiver
    listening.shutdown()
    thread.join()
    listening.server_close()


@pytest.fixture
def receiver(server: Receiver) -> Receiver:
    server.statuses.clear()
    server.requests.clear()
    return server


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.at = AT

    def __call__(self) -> datetime:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


Deliver = Callable[..., int]


@pytest.fixture
def send(database: Database, clock: Clock) -> Deliver:
    def sent(timeout_seconds: float = 60.0) -> int:
        return deliver(database, clock=clock, spread=lambda: 1.0, timeout_seconds=timeout_seconds)

    return sent


def listen(database: Database, url: str, *patterns: str) -> endpoints.Endpoint:
    with database.transaction() as connection:
        return endpoints.add(connection, url, patterns, private=True, at=AT)


def subscribe(connection: Connection, address: str = "ana@example.org", way: str = "api") -> int:
    added = subscribers.add(connection, parse_address(address), secret=SECRET, origin=Origin(way), at=AT)
    assert added.subscriber_id is not None
    return added.subscriber_id


def stored(database: Database) -> list[str]:
    with database.reading() as connection:
        return list(connection.scalars(select(WebhookEvent.c.type).order_by(WebhookEvent.c.type)))


def test_signature_is_that_of_the_specification() -> None:
    # The example of the reference libraries.
    secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}'
    expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body) == expected


def test_event_arrives_signed(database: Database, receiver: Receiver, send: Deliver) -> None:
    endpoint = listen(database, receiver.url, "subscriber.*")
    with database.transaction() as connection:
        ana = subscribe(connection)
    assert send() == 1
    [(headers, body)] = receiver.requests
    found = json.loads(body)
    assert (found["type"], found["timestamp"]) == ("subscriber.active", AT.isoformat())
    assert found["data"] == {
        "subscriber_id": ana,
        "address": "ana@example.org",
        "before": "",
        "after": "active",
        "way": "api",
        "issue_id": None,
    }
    assert headers["webhook-signature"] == signature(
        endpoint.secret, headers["webhook-id"], headers["webhook-timestamp"], body
    )
    assert headers["webhook-timestamp"] == str(int(AT.timestamp()))
    assert send() == 0


def test_fact_that_is_rolled_back_has_no_event(database: Database, receiver: Receiver) -> None:
    listen(database, receiver.url)
    with pytest.raises(ZeroDivisionError), database.transaction() as connection:
        subscribe(connection)
        raise ZeroDivisionError
    assert stored(database) == []
    with database.transaction() as connection:
        subscribe(connection)
    assert stored(database) == ["subscriber.active"]


def test_only_wanted_events_are_stored(database: Database, receiver: Receiver) -> None:
    with database.transaction() as connection:
        subscribe(connection, "before@example.org")
    listen(database, receiver.url, "subscriber.unsubscribed", "issue.*")
    with database.transaction() as connection:
        ana = subscribe(connection)
        subscribe(connection, "imported@example.org", way="import")
        ledger.unsubscribe(connection, ana, origin=Origin("page"), at=AT)
        issue, _ = issues.enqueue(connection, EDITION, source_path="", at=AT)
        control.pause(connection, issue.id, "a reason")
        control.pause(connection, issue.id, "again")
        control.resume(connection, issue.id)
        control.cancel(connection, issue.id, at=AT)
    assert stored(database) == [
        "issue.cancelled",
        "issue.paused",
        "issue.queued",
        "issue.resumed",
        "subscriber.unsubscribed",
    ]


def test_refused_event_is_tried_again_by_the_schedule_and_then_given_up(
    database: Database, receiver: Receiver, send: Deliver, clock: Clock
) -> None:
    listen(database, receiver.url)
    with database.transaction() as connection:
        queue.put(connection, [Occurrence("issue.paused", {"issue": "1"})], at=AT)
    receiver.statuses += [500] * 20
    for number, delay in enumerate(queue.RETRIES, 1):
        assert send() == 1
        assert send() == 0
        with database.reading() as connection:
            [one] = queue.deliveries(connection)
        assert (one.state, one.attempts, one.due_at, one.status) == (
            HookState.WAITING,
            number,
            clock.at + delay,
            500,
        )
        clock.at += delay
    assert send() == 1
    with database.reading() as connection:
        [one] = queue.deliveries(connection, state=HookState.FAILED)
    assert (one.due_at, one.said) == (None, "responded with 500")
    assert len({headers["webhook-id"] for headers, _ in receiver.requests}) == 1
    receiver.statuses.clear()
    with database.transaction() as connection:
        assert queue.resend(connection, one.uid, at=clock.at) == 1
    assert send() == 1
    with database.reading() as connection:
        assert [found.state for found in queue.deliveries(connection)] == [HookState.SENT]


@pytest.mark.parametrize("status", [302, 404, 0])
def test_redirect_refusal_and_silence_are_no_success(
    database: Database, receiver: Receiver, send: Deliver, status: int
) -> None:
    listen(database, receiver.url)
    with database.transaction() as connection:
        queue.put(connection, [Occurrence("issue.paused", {})], at=AT)
    receiver.statuses.append(status)
    assert send(0.2 if status == 0 else 60.0) == 1
    with database.reading() as connection:
        [one] = queue.deliveries(connection)
    assert one.state is HookState.WAITING
    assert one.said == ("no response within 0.2 s" if status == 0 else f"responded with {status}")
    assert len(receiver.requests) <= 1


def test_endpoint_that_is_gone_gets_nothing_more(
    database: Database, receiver: Receiver, send: Deliver
) -> None:
    listen(database, receiver.url)
    receiver.statuses.append(410)
    with database.transaction() as connection:
        queue.put(connection, [Occurrence("issue.paused", {})], at=AT)
    assert send() == 1
    with database.transaction() as connection:
        assert endpoints.active_endpoints(connection) == []
        queue.put(connection, [Occurrence("issue.paused", {})], at=AT)
        [one] = queue.deliveries(connection)
        assert one.state is HookState.FAILED
    assert send() == 0


@pytest.mark.parametrize("url", ["https://127.0.0.1:9/", "https://[::1]:9/", "https://localhost:9/"])
def test_private_address_is_not_contacted(database: Database, send: Deliver, url: str) -> None:
    with database.transaction() as connection:
        endpoints.add(connection, url, [], at=AT)
        queue.put(connection, [Occurrence("issue.paused", {})], at=AT)
    assert send() == 1
    with database.reading() as connection:
        [one] = queue.deliveries(connection)
    assert "is not a public address" in one.said or "no such host" in one.said


@pytest.mark.parametrize(
    "url",
    ["http://example.org/", "ftp://example.org/", "https://", "https://a b\n/", "x", "https://e:99999/"],
)
def test_url_that_cannot_be_an_endpoint(database: Database, url: str) -> None:
    with database.transaction() as connection, pytest.raises(SourceError):
        endpoints.add(connection, url, [], at=AT)


def test_erased_person_is_named_no_more(database: Database, receiver: Receiver, send: Deliver) -> None:
    listen(database, receiver.url)
    with database.transaction() as connection:
        subscribe(connection)
        erase(connection, parse_address("ana@example.org"), secret=SECRET, at=AT)
    assert send() == 2
    assert sorted(receiver.types) == ["subscriber.active", "subscriber.erased"]
    assert not [body for _, body in receiver.requests if b"ana@" in body]


def test_old_events_are_deleted(database: Database, receiver: Receiver, send: Deliver) -> None:
    listen(database, receiver.url)
    with database.transaction() as connection:
        queue.put(connection, [Occurrence("issue.paused", {})], at=AT)
    forget(database, at=AT + queue.KEPT_FOR)
    assert stored(database) == ["issue.paused"]
    forget(database, at=AT + queue.KEPT_FOR + timedelta(seconds=1))
    with database.reading() as connection:
        assert connection.scalar(select(func.count()).select_from(WebhookDelivery)) == 0
    assert stored(database) == []


def test_claim_of_a_process_that_died_is_taken_over(
    database: Database, receiver: Receiver, send: Deliver, clock: Clock
) -> None:
    listen(database, receiver.url)
    with database.transaction() as connection:
        queue.put(connection, [Occurrence("issue.paused", {})], at=AT)
        assert len(queue.claim(connection, limit=5, at=AT)) == 1
    assert send() == 0
    clock.at += timedelta(minutes=5)
    assert send() == 1


def test_without_endpoints_nothing_is_stored(database: Database) -> None:
    with database.transaction() as connection:
        subscribe(connection)
        assert connection.execute(text("SELECT count(*) FROM webhook_events")).scalar_one() == 0
