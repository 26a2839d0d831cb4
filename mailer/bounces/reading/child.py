"""The child process of `reader`: reads messages from standard input and answers with reports.

Both directions carry a length (4 octets, network order) and that many octets: a message in, a report in
MessagePack out. The first answer is empty and says that the child is ready.
"""

from __future__ import annotations

import contextlib
import struct
import sys
from typing import IO, Final

import msgspec

from mailer.bounces.reading.report import parse_report

LENGTH: Final = struct.Struct("!I")
_MAX_MEMORY_OCTETS: Final = 1 << 30


def send(stream: IO[bytes], octets: bytes) -> None:
    """Write one block."""
    stream.write(LENGTH.pack(len(octets)) + octets)
    stream.flush()


def receive(stream: IO[bytes]) -> bytes:
    """Read one block. Raises `EOFError` when the other side has gone."""
    (length,) = LENGTH.unpack(_exactly(stream, LENGTH.size))
    return _exactly(stream, length)


def _exactly(stream: IO[bytes], count: int) -> bytes:
    octets = stream.read(count)
    if len(octets) < count:
        raise EOFError
    return octets


def main() -> None:
    """Answer until standard input is closed."""
    _limit_memory()
    send(sys.stdout.buffer, b"")
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            report = parse_report(receive(sys.stdin.buffer))
            send(sys.stdout.buffer, msgspec.msgpack.encode(report))


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits.
        return
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_OCTETS, _MAX_MEMORY_OCTETS))


if __name__ == "__main__":
    main()
