"""A whole `mailer send` (durable rows, DKIM) against smtp-source, which sends one constant message.

Both send to Postfix's smtp-sink over 20 connections, in turn; the figure is the median of the rounds.
We compose and sign a separate message for each subscriber. The peer, written in C, records nothing, signs
nothing and always sends the same octets. The unsigned run shows the cost of the signatures.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from sqlalchemy import insert

from benchmarks import Figure
from benchmarks._peers import delayed, run_aiosmtplib, run_nodemailer, run_plain_script
from benchmarks._postgresql import away, databases
from benchmarks._sink import program as installed
from benchmarks._sink import sink
from mailer.config import load
from mailer.database.models import Subscriber
from mailer.database.session import Database
from mailer.delivery.clock import now
from mailer.review import sample
from mailer.smtp.dkim import generate_key

_CONNECTIONS = 20
_ROUND_TRIP_SECONDS = 0.05
_LINKS = 15
_DATABASE_SECONDS = 0.002
_FEW = 100
"""How many messages the slowest peer sends."""
_HTML_OCTETS = 60_000
_PROJECT = Path(__file__).parents[1]
_CONFIG = """\
[newsletter]
author_address = "ana@example.org"
postal_address = "1 Example Street"
[relays.sink]
host = "127.0.0.1"
port = {port}
security = "plain"
connections = {connections}
messages_per_connection = 1000000
[web]
public_url = "https://news.example.org"
[tracking]
clicks = true
opens = true
"""
_SIGNED = """\
[[dkim]]
domain = "example.org"
selector = "bench"
key_file = "key.pem"
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the sizes and the number of rounds."""
    parser.add_argument("--send-subscribers", type=int, default=20_000, metavar="N", help="for 'send'")
    parser.add_argument("--send-rounds", type=int, default=5, metavar="N", help="for 'send'")
    parser.add_argument(
        "--send-far-subscribers", type=int, default=20_000, metavar="N", help="for 'send', at 50 ms"
    )
    parser.add_argument(
        "--database",
        metavar="URL",
        help="for 'send': only compare SQLite with this PostgreSQL database; 'postgresql' starts one",
    )


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Yield messages a second, ours and the peer's, and our CPU time a message."""
    number, rounds = options.send_subscribers, options.send_rounds
    if options.database:
        yield from _databases(options.database, number, rounds)
        return
    source = installed("smtp-source")
    with tempfile.TemporaryDirectory() as scratch, sink() as port:
        folder = newsletter(Path(scratch) / "news", port)
        message = sample.render(load(folder / "config.toml"), folder / "issues" / "001-bench.md").message
        content = Path(scratch) / "message.eml"
        content.write_bytes(message.replace(b"\r\n", b"\n"))
        ours, cpu, peer, pool = [], [], [], []
        for _ in range(rounds):
            seconds, used = send(folder, number)
            ours.append(number / seconds)
            cpu.append(used / number * 1e6)
            peer.append(number / _run_source(source, port, content, number))
            fewer = max(_CONNECTIONS, number // 4)
            if taken := run_nodemailer(port, content, fewer, _CONNECTIONS):
                pool.append(fewer / taken)
        unsigned = number / send(newsletter(Path(scratch) / "unsigned", port, signed=False), number)[0]
        script = _FEW / run_plain_script(
            folder / "config.toml", folder / "issues" / "001-bench.md", port, _FEW
        )
        far = list(_far(Path(scratch) / "far", port, content, message, options.send_far_subscribers))
    ratio = statistics.median(one / other for one, other in zip(ours, peer, strict=True))
    yield Figure(
        "send",
        f"messages a second, {len(message):,} octets each",
        statistics.median(ours),
        statistics.median(peer),
        ratio,
        ">= 0.7",
        ratio >= 0.7,
        "/s",
    )
    other = statistics.median(peer)
    yield Figure("send", "the same unsigned, as the peer's are", unsigned, other, unsigned / other, unit="/s")
    yield Figure("send", "CPU a message, all in all", statistics.median(cpu), unit="µs")
    if pool:
        yield _beside("beside nodemailer's pool", statistics.median(ours), statistics.median(pool), 2.5)
    yield _beside("beside aiosmtplib, a rendering and dkimpy for each", statistics.median(ours), script, 20)
    yield from far


def _far(folder: Path, port: int, content: Path, message: bytes, number: int) -> Iterator[Figure]:
    """Yield messages a second over a round trip of 50 ms, beside what one round trip each allows."""
    fewer = max(_CONNECTIONS, number // 8)
    with delayed(port, _ROUND_TRIP_SECONDS) as far_port:
        ours = number / send(newsletter(folder, far_port), number)[0]
        taken = run_nodemailer(far_port, content, fewer, _CONNECTIONS)
        plain = fewer / run_aiosmtplib(far_port, message, fewer, _CONNECTIONS)
    yield _beside("at 50 ms, beside one round trip each", ours, _CONNECTIONS / _ROUND_TRIP_SECONDS, 0.85)
    if taken is not None:
        yield _beside("at 50 ms, beside nodemailer's pool", ours, fewer / taken, 2)
    yield _beside("at 50 ms, beside aiosmtplib, unsigned", ours, plain, 4)


def _databases(url: str, number: int, rounds: int) -> Iterator[Figure]:
    """Yield messages a second on PostgreSQL beside SQLite, unsigned; then with a delay to the database."""
    sqlite, near, far = [], [], []
    with tempfile.TemporaryDirectory() as scratch, sink() as port, databases(url) as new_database:
        folder = newsletter(Path(scratch) / "news", port, signed=False)
        for _ in range(rounds):
            sqlite.append(number / send(folder, number)[0])
            with new_database() as here:
                near.append(number / send(folder, number, here)[0])
            with new_database() as here, away(here, _DATABASE_SECONDS) as there:
                far.append(number / send(folder, number, there)[0])
    for figure, ours, bar in (
        ("PostgreSQL beside SQLite", near, 0.85),
        ("PostgreSQL 2 ms away beside SQLite", far, 0.75),
    ):
        ratio = statistics.median(one / other for one, other in zip(ours, sqlite, strict=True))
        yield Figure(
            "send", figure, statistics.median(ours), statistics.median(sqlite), ratio, f">= {bar}",
            ratio >= bar, "/s",
        )  # fmt: skip


def _beside(figure: str, ours: float, peer: float, bar: float) -> Figure:
    ratio = ours / peer
    return Figure("send", figure, ours, peer, ratio, f">= {bar}", ratio >= bar, "/s")


def newsletter(folder: Path, port: int, *, signed: bool = True) -> Path:
    """Make a newsletter whose issue is about 60 KB of HTML with links that are tracked."""
    (folder / "issues").mkdir(parents=True)
    shutil.copytree(_PROJECT / "email_templates", folder / "email_templates")
    config = _CONFIG.format(port=port, connections=_CONNECTIONS) + (_SIGNED if signed else "")
    (folder / "config.toml").write_text(config, encoding="utf-8")
    (folder / "key.pem").write_bytes(generate_key("rsa"))
    (folder / "key.pem").chmod(0o600)
    links = "\n\n".join(f"[Page {n}](https://example.org/page/{n})" for n in range(_LINKS))
    text = "The quick brown fox jumps over the lazy dog, and the dog sleeps on. " * 6
    body = f"Hello {{{{ subscriber.name | default('you') }}}},\n\n{links}\n"
    source = folder / "issues" / "001-bench.md"
    source.write_text(f"---\ntitle: Benchmark\n---\n\n{body}", encoding="utf-8")
    bare = len(sample.render(load(folder / "config.toml"), source).html)
    paragraph = len(text) + 60  # with its tags and inline styles, about
    body += "".join(f"\n{text}\n" for _ in range((_HTML_OCTETS - bare) // paragraph))
    source.write_text(f"---\ntitle: Benchmark\n---\n\n{body}", encoding="utf-8")
    return folder


def send(
    folder: Path,
    number: int,
    url: str = "sqlite:///subscribers.db",
    *,
    program: Sequence[str] = ("mailer",),
) -> tuple[float, float]:
    """Send to `number` subscribers from a new database; return wall and CPU seconds of the command.

    `program` is the module to run, with what comes before the arguments of `mailer`.
    """
    for path in folder.glob("subscribers.db*"):
        path.unlink()
    database = Database(url, folder=folder)
    database.open()
    at = now()
    with database.transaction() as session:
        session.execute(
            insert(Subscriber),
            [
                {
                    "address": f"reader{n}@example.com",
                    "address_key": f"reader{n}@example.com",
                    "domain": "example.com",
                    "name": f"Reader {n}",
                    "status": "active",
                    "attributes": {},
                    "created_at": at,
                    "changed_at": at,
                }
                for n in range(number)
            ],
        )
    database.close()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", *program, "send", "1", "--yes", "--quiet", "-C", str(folder)],
        check=True,
        cwd=_PROJECT,
        stdout=subprocess.DEVNULL,
        # An installed program has its bytecode, whatever this shell forbids.
        env={
            **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
            "MAILER_PATHS__DATABASE": url,
        },
    )
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _run_source(source: str, port: int, content: Path, number: int) -> float:
    command = [source, "-s", str(_CONNECTIONS), "-m", str(number), "-d", "-F", str(content)]
    command += ["-f", "b@example.org", "-t", "r@example.com", f"inet:127.0.0.1:{port}"]
    began = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - began
