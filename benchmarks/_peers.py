"""What `benchmarks.send` compares with besides smtp-source, and the delay it puts between."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import aiosmtplib

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
    """Return the seconds nodemailer's pool takes; None where it is not installed."""
    node = shutil.which("node") or shutil.which("nodejs")
    if node is None or not (_NODE / "node_modules" / "nodemailer").exists():
        return None
    command = [node, "send_timed.mjs", str(port), str(content), str(number), str(connections)]
    done = subprocess.run(command, cwd=_NODE, capture_output=True, text=True, check=True)
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
