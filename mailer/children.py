"""Child processes of ours that run one module, and the blocks that they exchange with us.

A block is a length (4 octets, network order) and that many octets.
"""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import IO, Final

import mailer

_LENGTH: Final = struct.Struct("!I")
EMPTY_OCTETS: Final = _LENGTH.size
"""The size of a block without content."""


def start(module: str, *, stdin: int, stdout: int) -> subprocess.Popen[bytes]:
    """Start a process that runs a module of this package; the streams are as for `subprocess.Popen`.

    Raises `OSError` if the machine allows no more processes.
    """
    folders = [str(Path(mailer.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module],
        stdin=stdin,
        stdout=stdout,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, folders))},
        start_new_session=True,  # Ctrl-C is for us; the child ends when its input does.
    )


def send(stream: IO[bytes] | io.BufferedRWPair, octets: bytes) -> None:
    """Write one block."""
    stream.write(_LENGTH.pack(len(octets)) + octets)
    stream.flush()


def receive(stream: IO[bytes] | io.BufferedRWPair) -> bytes:
    """Read one block. Raises `EOFError` when the other side has gone."""
    (length,) = _LENGTH.unpack(_exactly(stream, _LENGTH.size))
    return _exactly(stream, length)


def _exactly(stream: IO[bytes] | io.BufferedRWPair, count: int) -> bytes:
    octets = stream.read(count)
    if len(octets) < count:
        raise EOFError
    return octets
