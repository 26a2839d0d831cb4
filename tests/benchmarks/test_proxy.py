"""The delaying proxy changes nothing but the time."""

from __future__ import annotations

import random
import socket
import threading

from benchmarks._peers import delayed


def test_octets_arrive_whole_and_in_order_both_ways_and_the_end_is_passed_on() -> None:
    sent = random.Random(1).randbytes(3_000_000)
    with socket.create_server(("127.0.0.1", 0)) as server, delayed(server.getsockname()[1], 0.02) as port:

        def echo() -> None:
            far, _ = server.accept()
            with far:
                while data := far.recv(65536):
                    far.sendall(data)

        echoing = threading.Thread(target=echo)
        echoing.start()
        with socket.create_connection(("127.0.0.1", port)) as near:

            def give() -> None:
                near.sendall(sent)
                near.shutdown(socket.SHUT_WR)

            giving = threading.Thread(target=give)
            giving.start()
            received = b"".join(iter(lambda: near.recv(65536), b""))
            giving.join()
        echoing.join()

    assert sent == received
