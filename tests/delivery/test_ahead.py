"""Messages that are signed before their turn are those that would be made at it."""

import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from dkim import verify
from msgspec import structs

from mailer.config import DeliverySettings
from mailer.database.engine import Database
from mailer.delivery.ahead import Ahead, Call
from mailer.delivery.books import Books
from mailer.delivery.ending import Ending
from mailer.delivery.queue import Claimed
from mailer.delivery.sender import Sender
from mailer.errors import RecipientError
from mailer.rendering.message import Dkim, Recipient
from mailer.smtp import dkim
from mailer.smtp.signing import SigningProcess
from tests.delivery.scene import queued, run
from tests.rendering.message.test_composer import EDITION, composer

AT = datetime(2026, 3, 4, 10, 0, tzinfo=UTC)


def claimed(number: int, **attributes: Any) -> Claimed:
    recipient = Recipient(number, f"reader{number}@example.net", f"Reader {number}", attributes, ())
    return Claimed(recipient, "example.net", 1, AT)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> list[dkim.SigningKey]:
    pem = tmp_path_factory.mktemp("keys") / "rsa.pem"
    pem.write_bytes(dkim.generate_key("rsa"))
    return [dkim.SigningKey("example.org", "r1", dkim.load_key(pem))]


@pytest.fixture
def signs(keys: list[dkim.SigningKey]) -> Dkim:
    return Dkim(dkim.relaxed_lines, dkim.DkimSigner(keys).sign_digest)


@pytest.fixture
def signing(keys: list[dkim.SigningKey]) -> Iterator[SigningProcess]:
    process = SigningProcess(keys)
    yield process
    process.close()


@pytest.fixture
def ahead(signs: Dkim, signing: SigningProcess) -> Ahead:
    return Ahead(composer(dkim=signs), signing=signing)


def start(signing: SigningProcess) -> None:
    """Start the process and wait until it is ready."""
    signing.start(64)
    while not signing.is_ready():
        threading.Event().wait(0.01)


@pytest.mark.parametrize("ready", [False, True])
def test_every_message_is_the_one_that_compose_makes(
    ahead: Ahead, signs: Dkim, signing: SigningProcess, ready: bool
) -> None:
    if ready:
        start(signing)
    plain = composer(dkim=signs)
    waiting = [claimed(number) for number in range(1, 101)]
    while waiting:
        one = waiting.pop(0)
        assert ahead.message(one, waiting) == plain.compose(one.recipient, AT)


def test_each_arm_has_its_own_messages_signed(signs: Dkim, signing: SigningProcess) -> None:
    start(signing)
    plain, arm = composer(dkim=signs), composer(replace(EDITION, subject="B"), dkim=signs)
    made = Ahead(plain, [plain, arm], signing)
    waiting = [structs.replace(claimed(number), arm=(None, 0, 1)[number % 3]) for number in range(1, 101)]
    while waiting:
        one = waiting.pop(0)
        expected = (arm if one.arm == 1 else plain).compose(one.recipient, AT)
        assert made.message(one, waiting) == expected


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


def test_most_of_them_are_signed_by_the_other_process(
    keys: list[dkim.SigningKey], signing: SigningProcess
) -> None:
    start(signing)
    here: list[bytes] = []

    def sign(headers: bytes, digest: bytes) -> bytes:
        here.append(digest)
        return dkim.DkimSigner(keys).sign_digest(headers, digest)

    ahead = Ahead(composer(dkim=Dkim(dkim.relaxed_lines, sign)), signing=signing)
    waiting = [claimed(number) for number in range(1, 101)]
    while waiting:
        ahead.message(waiting.pop(0), waiting)
    assert len(here) == 1


def test_drafting_waits_for_connections_that_are_ready(signs: Dkim) -> None:
    later: list[Call] = []
    ahead = Ahead(composer(dkim=signs), soon=later.append)
    waiting = [claimed(number) for number in range(1, 101)]
    for _ in range(20):
        ahead.message(waiting.pop(0), waiting)
    assert ahead.begun == 0
    drafted = []
    while later:
        later.pop(0)()
        drafted.append(ahead.begun)
    # A few at a time: connections are served in between.
    assert drafted == [16, 32, 48, 64]
    for _ in range(20):
        ahead.message(waiting.pop(0), waiting)
    assert ahead.begun == 44
    assert len(later) == 1


def test_a_delivery_that_was_claimed_again_is_composed_again(
    ahead: Ahead, signs: Dkim, signing: SigningProcess
) -> None:
    start(signing)
    first, second, changed = claimed(1), claimed(2), claimed(2, city="Wien")
    ahead.message(first, [second])
    message = ahead.message(changed, [])
    assert message == composer(dkim=signs).compose(changed.recipient, AT)
    assert b"Wien" in message.content


def test_composing_errors_are_raised_in_turn(signs: Dkim, signing: SigningProcess) -> None:
    start(signing)
    edition = replace(EDITION, text="{{ subscriber.city }}")
    made = Ahead(composer(edition, dkim=signs), signing=signing)
    good, bad = claimed(1, city="Graz"), claimed(2)
    assert b"Graz" in made.message(good, [bad]).content
    with pytest.raises(RecipientError):
        made.message(bad, [])


def test_messages_that_cannot_be_composed_do_not_keep_it_busy(signs: Dkim) -> None:
    edition = replace(EDITION, text="{{ subscriber.city }}")
    later: list[Call] = []
    ahead = Ahead(composer(edition, dkim=signs), soon=later.append)
    bad = [claimed(number) for number in range(2, 40)]
    assert b"Graz" in ahead.message(claimed(1, city="Graz"), bad).content
    later.pop()()
    assert not later
    assert ahead.begun == 0


def test_unwanted_messages_are_dropped(ahead: Ahead, signing: SigningProcess) -> None:
    start(signing)
    gone = [claimed(number) for number in range(100, 120)]
    kept = [claimed(number) for number in range(1, 14)]
    ahead.message(kept.pop(0), gone)
    for _ in range(12):
        one = kept.pop(0)
        ahead.message(one, kept)
    assert ahead.begun == 0


@pytest.mark.parametrize("kill", [False, True])
def test_run_has_its_messages_signed_and_ends_the_process(
    database: Database,
    tmp_path: Path,
    keys: list[dkim.SigningKey],
    signs: Dkim,
    signing: SigningProcess,
    kill: bool,
) -> None:
    start(signing)
    child = signing.child

    def meanwhile(books: Books, sender: Sender) -> None:
        if kill and books.sent:
            child.kill()

    issue = queued(database, 200)
    many = DeliverySettings(window=200)
    ended = run(
        database, issue, tmp_path / "out", settings=many, dkim=signs, signing=signing, meanwhile=meanwhile
    )
    assert ended.ending is Ending.FINISHED
    assert child.returncode == -signal.SIGKILL
    found = [path.read_bytes() for path in (tmp_path / "out" / "new").iterdir()]
    assert len(found) == 200
    record = dkim.dns_record(keys[0].key).encode()
    for message in found[::5]:
        sent = message[message.index(b"DKIM-Signature: ") :]
        assert verify(sent, dnsfunc=lambda name, timeout=5: record)
