"""A signing process answers as its parent would; if it fails, its parent knows, and never waits forever."""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from threading import Event

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mailer import children
from mailer.smtp import signing
from mailer.smtp.dkim import DkimSigner, SigningKey, generate_key, load_key
from mailer.smtp.signing import SigningProcess, Unsigned

MOST = 64


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> list[SigningKey]:
    pem = tmp_path_factory.mktemp("keys") / "rsa.pem"
    pem.write_bytes(generate_key("rsa"))
    return [
        SigningKey("example.org", "r1", load_key(pem)),
        SigningKey("example.org", "e1", Ed25519PrivateKey.generate()),
    ]


@pytest.fixture
def process(keys: list[SigningKey]) -> Iterator[SigningProcess]:
    made = SigningProcess(keys)
    yield made
    made.close()


def started(process: SigningProcess) -> subprocess.Popen[bytes]:
    """Start the process, wait until it is ready, and return it."""
    process.start(MOST)
    while not process.is_ready():
        Event().wait(0.01)
    return process.child


def messages(number: int, *, first: int = 1) -> list[Unsigned]:
    return [
        (b"From: ana@example.org\r\nTo: reader%d@example.net\r\n" % n, hashlib.sha256(b"%d" % n).digest())
        for n in range(first, first + number)
    ]


def test_fields_are_those_that_the_signer_makes(process: SigningProcess, keys: list[SigningKey]) -> None:
    started(process)
    signer = DkimSigner(keys)
    wanted = messages(70)
    requests = process.request(wanted[:40]) + process.request(wanted[40:])
    # In any order: with several providers it is not always the first one's turn.
    for place in [*range(69, 0, -7), *range(70)]:
        assert process.wait(requests[place]) == signer.sign_digest(*wanted[place])


def test_no_process_is_started_for_a_few(process: SigningProcess) -> None:
    process.start(31)
    assert not hasattr(process, "child")
    process.start(32)
    child = process.child
    process.start(1_000)
    assert process.child is child


def test_forgotten_requests_make_room(process: SigningProcess, keys: list[SigningKey]) -> None:
    started(process)
    for first in range(1, 1_000, MOST):
        last = process.request(messages(MOST, first=first))[-1]
        assert len(process._requests) == MOST
    assert process.wait(last) == DkimSigner(keys).sign_digest(*messages(MOST, first=first)[-1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_to_the_whole_service_do_not_end_it(process: SigningProcess, number: signal.Signals) -> None:
    child = started(process)
    child.send_signal(number)
    assert process.wait(process.request(messages(1))[0]) is not None


def test_it_ends_when_its_parent_does(process: SigningProcess) -> None:
    child = started(process)
    process._socket.close()
    process._stream.close()
    assert child.wait(20) == 0


def test_closing_ends_it(process: SigningProcess) -> None:
    child = started(process)
    (request,) = process.request(messages(1))
    process.close()
    assert child.returncode == -signal.SIGKILL
    assert process.wait(request) is None
    assert not process.is_ready()


def killed(process: SigningProcess) -> None:
    os.kill(started(process).pid, signal.SIGKILL)


def stopped(process: SigningProcess) -> None:
    child = started(process)
    process._socket.settimeout(0.2)
    os.kill(child.pid, signal.SIGSTOP)


@pytest.mark.parametrize("fail", [killed, stopped])
def test_requests_of_a_process_that_fails_are_answered_with_nothing(
    process: SigningProcess, fail: Callable[[SigningProcess], None], caplog: pytest.LogCaptureFixture
) -> None:
    fail(process)
    with caplog.at_level(logging.WARNING):
        requests = process.request(messages(MOST))
        assert len(requests) == MOST
        assert [process.wait(one) for one in requests] == [None] * MOST
    assert caplog.messages == [
        "the process that signs messages has ended; this process signs them from now on"
    ]
    assert not process.is_ready()
    assert process.child.returncode == -signal.SIGKILL


def test_signatures_that_came_before_it_failed_are_kept(process: SigningProcess) -> None:
    started(process)
    first, second = process.request(messages(2))
    assert process.wait(second) is not None
    killed(process)
    assert process.wait(process.request(messages(1))[0]) is None
    assert process.wait(first) is not None


def test_a_process_that_cannot_be_started_is_done_without(
    process: SigningProcess, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(module: str, **streams: int) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(children, "start", refuse)
    process.start(MOST)
    process.start(MOST)
    assert not process.is_ready()
    assert len(caplog.messages) == 1


def test_a_process_that_ends_before_it_is_ready_is_done_without(
    process: SigningProcess, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(signing, "__name__", "mailer.smtp.no_such_module")
    process.start(MOST)
    process.child.wait(20)
    assert not process.is_ready()
    assert len(caplog.messages) == 1
