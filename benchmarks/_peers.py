"""What `benchmarks.send` compares with besides smtp-source, and the delay it puts between."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import aiosmtplib
import dkim

from benchmarks.compose import Peer
from mailer.config import load
from mailer.delivery.editions import build
from mailer.rendering.message import Recipient

_PROJECT: Final = Path(__file__).parents[1]
_NODE: Final = _PROJECT / "tests" / "install" / "node"


@contextlib.contextmanager
def delayed(port: int, round_trip_seconds: float) -> Iterator[int]:
    """Yield a port that leads to `port` over a round trip of this length."""
    command = [sys.executable, "-m", "benchmarks._proxy", str(port), str(round_trip_seconds / 2)]
    with subprocess.Popen(command, cwd=_PROJECT, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        try:
            yield int(running.stdout.readline())
        finally:
            running.terminate()


def run_nodemailer(port: int, content: Path, number: int, connections: int) -> float | None:
    """Return the seconds nodemailer's pool takes for one constant message; None where it is not installed."""
    return _run_node("send_timed.mjs", str(port), str(content), str(number), str(connections))


def run_composing_nodemailer(folder: Path, port: int, number: int, connections: int) -> float | None:
    """Return the seconds nodemailer takes to compose and send the newsletter's issue, signed if ours is.

    It fills in the same templates, which are split beforehand. None where it is not installed.
    """
    settings = load(folder / "config.toml")
    edition = build(settings, folder / "issues" / "001-bench.md")
    job = {
        "port": port,
        "connections": connections,
        "number": number,
        "html": edition.html,
        "text": edition.text,
        "subject": edition.subject,
        "base": settings.web.public_url,
        "domain": settings.newsletter.author_domain,
    }
    for key in settings.dkim:
        job |= {"selector": key.selector, "key": settings.path(key.key_file).read_text(encoding="ascii")}
    file = folder / "nodemailer.json"
    file.write_text(json.dumps(job), encoding="utf-8")
    return _run_node("send_composed.mjs", str(file))


def _run_node(program: str, *arguments: str) -> float | None:
    node = shutil.which("node") or shutil.which("nodejs")
    if node is None or not (_NODE / "node_modules" / "nodemailer").exists():
        return None
    done = subprocess.run([node, program, *arguments], cwd=_NODE, capture_output=True, text=True, check=True)
    return float(done.stdout)


def run_aiosmtplib(port: int, content: bytes, number: int, connections: int) -> float:
    """Return the seconds aiosmtplib takes, a command at a time, for one constant message."""

    async def connection(share: int) -> None:
        async with aiosmtplib.SMTP(hostname="127.0.0.1", port=port, use_tls=False, start_tls=False) as client:
            for _ in range(share):
                await client.sendmail("b@example.org", ["r@example.com"], content)

    async def everything() -> None:
        await asyncio.gather(*(connection(number // connections) for _ in range(connections)))

    began = time.perf_counter()
    asyncio.run(everything())
    return (time.perf_counter() - began) * number / (number // connections * connections)


def run_plain_script(config: Path, issue: Path, port: int, number: int) -> float:
    """Return the seconds of a plain script: each message is rendered, built, signed and sent by itself.

    The rendering is ours, which is no slower than another; Jinja and EmailMessage, dkimpy and aiosmtplib
    do the rest, over 20 connections.
    """
    settings = load(config)
    (key,) = settings.dkim
    pem = settings.path(key.key_file).read_bytes()
    recipients = (Recipient(n, f"reader{n}@example.com", f"Reader {n}") for n in range(1, number + 1))

    async def connection() -> None:
        async with aiosmtplib.SMTP(hostname="127.0.0.1", port=port, use_tls=False, start_tls=False) as client:
            for recipient in recipients:
                content = Peer(build(settings, issue)).compose(recipient)
                field = dkim.sign(content, key.selector.encode(), key.domain.encode(), pem)
                await client.sendmail("b@example.org", [recipient.email], field + content)

    async def everything() -> None:
        await asyncio.gather(*(connection() for _ in range(20)))

    began = time.perf_counter()
    asyncio.run(everything())
    return time.perf_counter() - began
