"""The session against Postfix's own test server, smtp-sink."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mailer.config import Relay, Security
from mailer.smtp.session import Attempt, End, Fate, SmtpSession, Stage
from tests.ports import free_port
from tests.smtp.scripted import run_async
from tests.smtp.test_session import SHORT, outgoing, supply

SMTP_SINK = Path("/usr/sbin/smtp-sink")

pytestmark = [
    pytest.mark.servers,
    pytest.mark.usefixtures("each_loop"),
    pytest.mark.skipif(
        not SMTP_SINK.exists() and os.environ.get("CI") != "true",
        reason="smtp-sink is missing: apt-get install postfix",
    ),
]


@contextmanager
def smtp_sink(folder: Path, *options: str) -> Iterator[Relay]:
    """Run smtp-sink, which writes each message to a file of its own in `folder`."""
    port = free_port()
    folder.chmod(0o777)
    # It refuses to run as root, and then changes its root directory to the folder.
    user = ("-u", "nobody", "-R", str(folder)) if os.getuid() == 0 else ()
    dump = "m." if user else f"{folder}/m."
    command = [str(SMTP_SINK), *user, "-d", dump, *options, f"127.0.0.1:{port}", "100"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            while process.poll() is None:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
            yield Relay(host="127.0.0.1", port=port, security=Security.PLAIN)
        finally:
            process.terminate()


def send(relay: Relay, count: int) -> tuple[bool, End, list[Attempt]]:
    """Return whether the session pipelined, how it ended, and the outcomes of this many messages."""

    async def go() -> tuple[bool, End, list[Attempt]]:
        outcomes: list[Attempt] = []
        session = await SmtpSession.open(relay, client_name="here.example", timeouts=SHORT)
        body = b"Subject: x\r\n\r\n" + b".hidden\r\n" * 10_000
        end = await session.run(supply(outgoing(key, body) for key in range(1, count + 1)), outcomes.append)
        await session.close()
        return session.pipelining, end, outcomes

    return run_async(go())


@pytest.mark.parametrize("options", [(), ("-p",), ("-e",)], ids=["pipelining", "lock-step", "HELO"])
def test_messages_arrive_whole(tmp_path: Path, options: tuple[str, ...]) -> None:
    with smtp_sink(tmp_path, *options) as relay:
        pipelining, end, outcomes = send(relay, 20)
    assert pipelining is (options == ())
    assert end is End.DRAINED
    assert [outcome.fate for outcome in outcomes] == [Fate.ACCEPTED] * 20
    stored = sorted(tmp_path.iterdir())
    assert len(stored) == 20
    assert all(path.read_bytes().count(b"\n.hidden") == 10_000 for path in stored)


@pytest.mark.parametrize(
    ("options", "fate", "stage"),
    [
        (("-r", "mail"), Fate.REFUSED, Stage.MAIL),
        (("-f", "rcpt"), Fate.REFUSED, Stage.RCPT),
        (("-f", "data"), Fate.REFUSED, Stage.DATA),
        (("-r", "."), Fate.REFUSED, Stage.BODY),
        (("-q", "mail"), Fate.LOST, Stage.MAIL),
        (("-q", "data"), Fate.LOST, Stage.MAIL),
        (("-q", "."), Fate.UNCERTAIN, Stage.BODY),
    ],
)
def test_each_refusal_and_disconnection_is_reported(
    tmp_path: Path,
    options: tuple[str, ...],
    fate: Fate,
    stage: Stage,
) -> None:
    with smtp_sink(tmp_path, *options) as relay:
        _, end, outcomes = send(relay, 3)
    assert (outcomes[0].fate, outcomes[0].stage) == (fate, stage)
    assert end is (End.DRAINED if fate is Fate.REFUSED else End.CLOSED)
    assert len(outcomes) == 3 if fate is Fate.REFUSED else len(outcomes) <= 2
