"""The child process of `reader`: reads messages from standard input and answers with reports.

Both directions carry blocks of `mailer.children`: a message in, a report in MessagePack out. The first answer
is empty and says that the child is ready.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Final

import msgspec

from mailer.bounces.reading.report import parse_report
from mailer.children import receive, send

_MAX_MEMORY_OCTETS: Final = 1 << 30


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
