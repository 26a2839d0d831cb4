"""A process that makes DKIM signatures while ours composes and sends.

A thread would wait for Python's lock several times for each signature, and come back to cold caches. Blocks
of `mailer.children` go both ways: first the keys, then lists of requests, both in MessagePack. The first
answer is empty and says that the process is ready; then each signature is an answer.
"""

from __future__ import annotations

import contextlib
import io
import logging
import signal
import socket
import sys
from collections import deque
from collections.abc import Sequence
from typing import Final

import msgspec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from mailer import children
from mailer.smtp.dkim import DkimSigner, PrivateKey, SigningKey

_WORTH_STARTING: Final = 32
"""A process is not started for fewer messages."""
_MOST_WAITING: Final = 64
"""This many requests, or signatures, fit in the buffers of the socket."""
_BUFFER_OCTETS: Final = 1 << 18
_PATIENCE_SECONDS: Final = 10.0
_log = logging.getLogger(__name__)
_Key = tuple[str, str, bytes]
"""Domain, selector, and the private key in PKCS #8."""
Unsigned = tuple[bytes, bytes]
"""The headers of a message, and the SHA-256 of its canonical body."""


class Request:
    """A signature that was asked for; `fields` are the header fields, once they are there."""

    __slots__ = ("fields",)

    def __init__(self) -> None:
        self.fields: bytes | None = None


class SigningProcess:
    """Makes the signatures of `DkimSigner` in another process, in the order of the requests.

    The caller signs while the process is not started, until it is ready, and after it has ended.
    """

    def __init__(self, keys: Sequence[SigningKey]) -> None:
        self._keys = keys
        self._open = contextlib.ExitStack()
        self._started = self._ready = self._ended = False
        self._requests: deque[Request] = deque()

    def start(self, wanted: int) -> None:
        """Start the process if this many signatures are worth it. It takes milliseconds."""
        if wanted < _WORTH_STARTING or self._started or self._ended:
            return
        try:
            self._start()
        except OSError:
            self._lose()

    def is_ready(self) -> bool:
        """Return whether signatures can be requested."""
        if self._started and not self._ready and not self._ended:
            try:
                self._ready = self._has_begun()
            except (EOFError, OSError):
                self._lose()
        return self._ready

    def request(self, messages: Sequence[Unsigned]) -> list[Request]:
        """Ask for signatures, at most 64 at a time. The process must be ready."""
        requests = [Request() for _ in messages]
        try:
            while len(self._requests) + len(messages) > _MOST_WAITING:
                self._receive()
            children.send(self._stream, msgspec.msgpack.encode(messages))
            self._requests += requests
        except (EOFError, OSError):
            self._lose()
        return requests

    def wait(self, request: Request) -> bytes | None:
        """Return the fields to put in front of the headers; None if the process has ended without them."""
        try:
            while request.fields is None and not self._ended:
                self._receive()
        except (EOFError, OSError):
            self._lose()
        return request.fields

    def close(self) -> None:
        """End the process."""
        self._ready, self._ended = False, True
        self._requests.clear()
        self._open.close()

    def _receive(self) -> None:
        self._requests.popleft().fields = children.receive(self._stream)

    def _has_begun(self) -> bool:
        try:
            empty = self._socket.recv(children.EMPTY_OCTETS)
        except BlockingIOError:
            return False
        if not empty:
            raise EOFError
        self._socket.settimeout(_PATIENCE_SECONDS)
        return True

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair()
        self._open.enter_context(self._socket)
        with theirs:
            for one in (self._socket, theirs):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_OCTETS)
            self.child = children.start(__name__, stdin=theirs.fileno(), stdout=theirs.fileno())
        self._open.callback(self.child.wait)
        self._open.callback(self.child.kill)
        self._stream = self._socket.makefile("rwb")
        self._open.callback(_close, self._stream)
        children.send(self._stream, msgspec.msgpack.encode([_packed(key) for key in self._keys]))
        self._socket.settimeout(0)
        self._started = True

    def _lose(self) -> None:
        _log.warning("the process that signs messages has ended; this process signs them from now on")
        self.close()


def _close(stream: io.BufferedRWPair) -> None:
    # What it could not write is given up.
    with contextlib.suppress(OSError):
        stream.close()


def _packed(key: SigningKey) -> _Key:
    octets = key.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return key.domain, key.selector, octets


def _unpacked(key: _Key) -> SigningKey:
    domain, selector, octets = key
    # Our parent has checked the key, which takes long.
    loaded = load_der_private_key(octets, password=None, unsafe_skip_rsa_key_validation=True)
    assert isinstance(loaded, PrivateKey)
    return SigningKey(domain, selector, loaded)


def main() -> None:
    """Sign until standard input is closed."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # The parent finishes what is in flight first, and then closes our input.
        signal.signal(number, signal.SIG_IGN)
    questions, answers = sys.stdin.buffer, sys.stdout.buffer
    with contextlib.suppress(EOFError, BrokenPipeError):
        keys = msgspec.msgpack.decode(children.receive(questions), type=list[_Key])
        signer = DkimSigner([_unpacked(key) for key in keys])
        children.send(answers, b"")
        while True:
            for headers, digest in msgspec.msgpack.decode(children.receive(questions), type=list[Unsigned]):
                children.send(answers, signer.sign_digest(headers, digest))


if __name__ == "__main__":
    main()
