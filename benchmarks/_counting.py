"""An SMTP server that accepts every message and only counts it, so cheaply that it is not the limit.

`python -m benchmarks._counting` prints its port, and on SIGTERM the number of messages. smtp-sink looks at
each octet, and takes longer to receive a message than our sender to send it.
"""

from __future__ import annotations

import contextlib
import selectors
import signal
import socket
from typing import Final

_BUFFER: Final = bytearray(1 << 20)
_END: Final = b"\r\n.\r\n"
_ACCEPTED: Final = b"250 2.0.0 accepted\r\n"
_REPLIES: Final = {
    b"EHLO": b"250-counting\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n",
    b"DATA": b"354 go ahead\r\n",
    b"QUIT": b"221 2.0.0 goodbye\r\n",
}


class Dialogue:
    """One connection. The client may pipeline, also after the end of a message (RFC 2920 section 3.1)."""

    def __init__(self, connection: socket.socket) -> None:
        self.messages = 0
        self._connection = connection
        self._line = b""
        """The beginning of a command whose end has not come yet."""
        self._last: bytes | None = None
        """The last octets of the message that is being received; None between messages."""
        # Otherwise the replies to a message and to the commands behind it would be 40 ms apart.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(b"220 counting ESMTP\r\n")

    def receive(self) -> bool:
        """Receive and answer once; return False when the client has gone."""
        length = self._connection.recv_into(_BUFFER)
        begin = 0 if self._last is None else self._skip_message(length)
        if begin < length:
            self._answer(bytes(_BUFFER[begin:length]))
        return length > 0

    def _skip_message(self, length: int) -> int:
        """Return where the octets behind the message begin; `length` if the message goes on."""
        assert self._last is not None
        before = len(self._last)
        found = (self._last + _BUFFER[: min(length, len(_END))]).find(_END)
        if found < 0 and (found := _BUFFER.find(_END, 0, length)) >= 0:
            found += before
        if found < 0:
            self._last = (self._last + _BUFFER[max(0, length - len(_END)) : length])[1 - len(_END) :]
            return length
        self._last = None
        self.messages += 1
        self._connection.sendall(_ACCEPTED)
        return found - before + len(_END)

    def _answer(self, octets: bytes) -> None:
        *commands, self._line = (self._line + octets).split(b"\r\n")
        self._connection.sendall(
            b"".join(_REPLIES.get(command[:4].upper(), _ACCEPTED) for command in commands)
        )
        if commands and commands[-1].upper() == b"DATA":
            # A message may begin with the dot that ends it.
            self._last = b"\r\n"


def _goes_on(dialogue: Dialogue) -> bool:
    try:
        return dialogue.receive()
    except ConnectionError:
        # The client closed before it had read the last reply.
        return False


def serve(listener: socket.socket, ended: socket.socket) -> int:
    """Receive messages until something arrives at `ended`; return how many came."""
    dialogues: list[Dialogue] = []
    with contextlib.ExitStack() as opened:
        ready = opened.enter_context(selectors.DefaultSelector())
        ready.register(listener, selectors.EVENT_READ)
        ready.register(ended, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.fileobj is ended:
                    return sum(dialogue.messages for dialogue in dialogues)
                if key.fileobj is listener:
                    connection = opened.enter_context(listener.accept()[0])
                    dialogues.append(Dialogue(connection))
                    ready.register(connection, selectors.EVENT_READ, dialogues[-1])
                elif not _goes_on(key.data):
                    ready.unregister(key.fileobj)


def _main() -> None:
    awake, wake = socket.socketpair()
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())
    signal.signal(signal.SIGTERM, lambda *_: None)
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as listener:
        print(listener.getsockname()[1], flush=True)
        print(serve(listener, awake), flush=True)


if __name__ == "__main__":
    _main()
