"""Messages that are signed before their turn are those that would be made at it."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from mailer.database.session import Database
from mailer.delivery.ahead import Ahead
from mailer.delivery.queue import Claimed
from mailer.delivery.sender import Sender
from mailer.errors import RecipientError
from mailer.rendering.message import Dkim, Recipient
from tests.delivery.scene import queued, run
from tests.rendering.message.test_composer import EDITION, composer

AT = datetime(2026, 3, 4, 10, 0, tzinfo=UTC)


def claimed(number: int, **attributes: Any) -> Claimed:
    recipient = Recipient(number, f"reader{number}@example.net", f"Reader {number}", attributes, ())
    return Claimed(recipient, "example.net", 1, AT)


def signs(threads: list[str]) -> Dkim:
    def sign(headers: bytes, digest: bytes) -> bytes:
        threads.append(threading.current_thread().name)
        return b"DKIM-Signature: %b\r\n" % digest.hex().encode()

    return Dkim(lambda lines: lines, sign)


@pytest.fixture
def threads() -> list[str]:
    return []


@pytest.fixture
def ahead(threads: list[str]) -> Iterator[Ahead]:
    made = Ahead(composer(dkim=signs(threads)))
    yield made
    made.close()


def test_every_message_is_the_one_that_compose_makes(ahead: Ahead) -> None:
    plain = composer(dkim=signs([]))
    waiting = [claimed(number) for number in range(1, 101)]
    while waiting:
        one = waiting.pop(0)
        assert ahead.message(one, waiting) == plain.compose(one.recipient, AT)


def test_unsigned_messages_are_those_that_compose_makes_in_any_order() -> None:
    plain, arm = composer(), composer(replace(EDITION, subject="B"))
    made = Ahead(plain, [plain, arm])
    waiting = [structs.replace(claimed(number), arm=(None, 0, 1)[number % 3]) for number in range(1, 101)]
    for place in range(100):
        # As with several providers, it is not always the first one's turn.
        one = waiting.pop(place * 7 % len(waiting))
        expected = (arm if one.arm == 1 else plain).compose(one.recipient, AT)
        assert made.message(one, waiting) == expected
    assert made.begun == 0
    made.close()


def test_most_of_them_are_signed_in_a_thread(ahead: Ahead, threads: list[str]) -> None:
    waiting = [claimed(number) for number in range(1, 25)]
    ahead.message(waiting.pop(0), waiting)
    for _ in count():
        if sum(name.startswith("signing") for name in threads) == 23:
            break
        threading.Event().wait(0.01)
    assert len(threads) == 24


def test_a_delivery_that_was_claimed_again_is_composed_again(ahead: Ahead) -> None:
    first, second, changed = claimed(1), claimed(2), claimed(2, city="Wien")
    ahead.message(first, [second])
    message = ahead.message(changed, [])
    assert message == composer(dkim=signs([])).compose(changed.recipient, AT)
    assert b"Wien" in message.content


def test_composing_errors_are_raised_in_turn(threads: list[str]) -> None:
    edition = replace(EDITION, text="{{ subscriber.city }}")
    made = Ahead(composer(edition, dkim=signs(threads)))
    good, bad = claimed(1, city="Graz"), claimed(2)
    assert b"Graz" in made.message(good, [bad]).content
    with pytest.raises(RecipientError):
        made.message(bad, [])
    made.close()


def test_unwanted_messages_are_dropped(ahead: Ahead) -> None:
    gone = [claimed(number) for number in range(100, 120)]
    kept = [claimed(number) for number in range(1, 14)]
    ahead.message(kept.pop(0), gone)
    for _ in range(12):
        one = kept.pop(0)
        ahead.message(one, kept)
    assert ahead.begun == 0


def test_without_keys_there_is_no_thread() -> None:
    made = Ahead(composer())
    before = threading.active_count()
    one, two = claimed(1), claimed(2)
    assert made.message(one, [two]) == composer().compose(one.recipient, AT)
    assert threading.active_count() == before
    made.close()


def test_run_stops_the_threads_that_sign(
    database: Database, tmp_path: Path, threads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tests.delivery.scene.make_composer", lambda issue_id, edition: composer(edition, dkim=signs(threads))
    )
    senders: set[Sender] = set()
    run(database, queued(database, 5), tmp_path / "out", meanwhile=lambda books, sender: senders.add(sender))
    assert any(name.startswith("signing") for name in threads)
    assert [one.name for one in threading.enumerate() if one.name.startswith("signing")] == []
    assert len(senders) == 1
