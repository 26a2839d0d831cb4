"""The server that only counts finds every end of a message, however the octets are cut and pipelined."""

from __future__ import annotations

import socket
import threading

import pytest

from benchmarks._counting import serve

_CONTENT = (b"", b".\r\n", b"..\r\n", b"Subject: one\r\n\r\n..\r\n.one\r\n", b"long " * 100_000 + b"\r\n")


@pytest.mark.parametrize("octets_at_once", [1, 2, 3, 5, 7, 64, 1 << 20])
def test_every_message_is_counted_and_every_command_answered(octets_at_once: int) -> None:
    contents = _CONTENT if octets_at_once > 3 else _CONTENT[:-1]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended, end = socket.socketpair()
        came: list[int] = []
        serving = threading.Thread(target=lambda: came.append(serve(listener, ended)))
        serving.start()
        with ended, end:
            with socket.create_connection(listener.getsockname()) as client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                replies = client.makefile("rb")
                assert replies.readline().startswith(b"220 ")
                client.sendall(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n")
                for content in contents:
                    assert [replies.readline()[:3] for _ in range(3)] == [b"250", b"250", b"354"]
                    # The next envelope follows the dot, as our sender writes it.
                    dotted = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]
                    whole = dotted + b".\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"
                    for begin in range(0, len(whole), octets_at_once):
                        client.sendall(whole[begin : begin + octets_at_once])
                    assert replies.readline().startswith(b"250 ")
            end.send(b"\0")
            serving.join()

    assert [len(contents)] == came
