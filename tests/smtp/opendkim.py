"""OpenDKIM as a verifier: the real filter, asked over the milter protocol as a mail server asks it."""

from __future__ import annotations

import re
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import program

_CONFIG = """\
Mode v
Socket local:{folder}/socket
PidFile {folder}/opendkim.pid
TestPublicKeys {folder}/keys
AlwaysAddARHeader yes
AuthservID verifier.example
Background no
AutoRestart no
UMask 077
UserID {user}
"""
_ACTIONS, _NO_SHORTCUTS = 0x1FF, 0
_RESULT = re.compile(r"dkim=(\w+)")


class Verifier:
    """One connection to the filter; every message is a transaction on it."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(20)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._reader = self._socket.makefile("rb")
        self._ask(b"O", struct.pack(">III", 6, _ACTIONS, _NO_SHORTCUTS))
        # An address from outside: what comes from the machine itself is signed, not verified.
        self._ask(b"C", b"mx.example\x004" + struct.pack(">H", 25) + b"192.0.2.1\0")
        self._ask(b"H", b"mx.example\0")

    def results(self, message: bytes) -> list[str]:
        """Return what the filter says of each signature: `pass`, `fail` and so on."""
        self._ask(b"M", b"<b@bounce.example.org>\0")
        self._ask(b"R", b"<reader@example.com>\0")
        header, _, body = message.partition(b"\r\n\r\n")
        for field in re.split(rb"\r\n(?![ \t])", header):
            name, _, value = field.partition(b":")
            # A mail server hands the value over without its first blank, folded with LF.
            value = value.removeprefix(b" ").replace(b"\r\n", b"\n")
            self._ask(b"L", name + b"\0" + value + b"\0")
        self._ask(b"N", b"")
        for at in range(0, len(body), 65_000):
            self._ask(b"B", body[at : at + 65_000])
        self._send(b"E", b"")
        said = []
        while True:
            kind, data = self._receive()
            if kind in b"hi":
                said.append(data.decode("utf-8", "replace"))
            if kind in b"catr":
                break
        return _RESULT.findall("\n".join(line for line in said if "Authentication-Results" in line))

    def close(self) -> None:
        """End the connection."""
        self._send(b"Q", b"")
        self._reader.close()
        self._socket.close()

    def _send(self, kind: bytes, data: bytes) -> None:
        self._socket.sendall(struct.pack(">I", len(data) + 1) + kind + data)

    def _receive(self) -> tuple[bytes, bytes]:
        (length,) = struct.unpack(">I", self._reader.read(4))
        packet = self._reader.read(length)
        return packet[:1], packet[1:]

    def _ask(self, kind: bytes, data: bytes) -> None:
        self._send(kind, data)
        answer, _ = self._receive()
        assert answer in b"Oc", f"the filter answered {answer!r} to {kind!r}"


@contextmanager
def verifier(records: Mapping[str, str]) -> Iterator[Verifier]:
    """Run OpenDKIM with these DNS records (name to text); skip the test where it is not installed."""
    binary = program("opendkim")
    # The name of a Unix socket is short, so this is not where pytest keeps its folders.
    with (
        tempfile.TemporaryDirectory(prefix="opendkim-") as folder,
        _running(binary, Path(folder), records) as made,
    ):
        yield made


@contextmanager
def _running(binary: str, folder: Path, records: Mapping[str, str]) -> Iterator[Verifier]:
    keys = "".join(f"{name} {record}\n" for name, record in records.items())
    (folder / "keys").write_text(keys, encoding="ascii")
    config = folder / "opendkim.conf"
    config.write_text(_CONFIG.format(folder=folder, user=folder.owner()), encoding="ascii")
    log = (folder / "log").open("wb")
    running = subprocess.Popen([binary, "-f", "-x", str(config)], stdout=log, stderr=log)
    try:
        made = _connected(folder / "socket", running, folder / "log")
        yield made
        made.close()
    finally:
        running.terminate()
        running.wait(20)
        log.close()


def _connected(path: Path, running: subprocess.Popen[bytes], log: Path) -> Verifier:
    until = time.monotonic() + 20
    while True:
        assert running.poll() is None, log.read_text(encoding="utf-8")
        try:
            return Verifier(path)
        except (FileNotFoundError, ConnectionRefusedError):
            assert time.monotonic() < until, log.read_text(encoding="utf-8")
            time.sleep(0.05)
