"""A whole `mailer send` (durable rows, DKIM) against smtp-source and nodemailer.

All send to Postfix's smtp-sink over 20 connections, in turn, and some to a server that only counts; the
figures are medians of the rounds. We compose a separate message for each subscriber, signed or not.
smtp-source, written in C, records nothing, signs nothing and always sends the same octets. nodemailer fills
in the same templates and signs, too.
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

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from sqlalchemy import insert

from benchmarks import Figure
from benchmarks._peers import (
    delayed,
    run_aiosmtplib,
    run_composing_nodemailer,
    run_nodemailer,
    run_plain_script,
)
from benchmarks._postgresql import away, databases
from benchmarks._sink import counting_sink, sink
from benchmarks._sink import program as installed
from mailer.config import load
from mailer.database.engine import Database
from mailer.database.tables import Subscriber
from mailer.delivery.clock import now
from mailer.review import sample
from mailer.smtp.dkim import generate_key

_CONNECTIONS = 20
_ROUND_TRIP_SECONDS = 0.05
_LINKS = 15
_CPU_MICROSECONDS = 250
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
    with tempfile.TemporaryDirectory() as scratch, sink() as port:
        folder, plain = (
            newsletter(Path(scratch) / name, port, signed=name == "signed") for name in ("signed", "unsigned")
        )
        message = sample.render(load(folder / "config.toml"), folder / "issues" / "001-bench.md").message
        content = Path(scratch) / "message.eml"
        content.write_bytes(message.replace(b"\r\n", b"\n"))
        found = [_round(folder, plain, port, content, number) for _ in range(rounds)]
        script = _FEW / run_plain_script(
            folder / "config.toml", folder / "issues" / "001-bench.md", port, _FEW
        )
        signature = _signature_seconds(folder / "key.pem", message) * 1e6
        far = list(_far(Path(scratch) / "far", port, content, message, options.send_far_subscribers))
        counted = list(_counted(Path(scratch) / "counted", content, number, rounds))
    median = {name: statistics.median(one[name] for one in found) for name in found[0]}
    size = f"messages a second, {len(message):,} octets each"
    yield _beside(size, median["signed"], median["smtp-source"], 0.9)
    yield _beside("the same unsigned, as the peer's are", median["unsigned"], median["smtp-source"], 1)
    yield _at_most("CPU a message unsigned", median["unsigned CPU"], _CPU_MICROSECONDS)
    yield _at_most("CPU a message signed", median["signed CPU"], _CPU_MICROSECONDS + 1.15 * signature)
    yield Figure("send", "of which OpenSSL would take to hash and sign", signature, unit="µs")
    if "nodemailer" in median:
        yield _beside(
            "beside nodemailer composing and signing each", median["signed"], median["nodemailer"], 2.5
        )
        yield _beside("beside nodemailer sending one constant message", median["signed"], median["constant"])
    yield _beside("beside aiosmtplib, a rendering and dkimpy for each", median["signed"], script, 20)
    yield from far
    yield from counted


def _round(folder: Path, plain: Path, port: int, content: Path, number: int) -> dict[str, float]:
    """Run each side once; return messages a second by side, and our microseconds of CPU a message."""
    found = {}
    for name, one in (("signed", folder), ("unsigned", plain)):
        seconds, used = send(one, number)
        found[name], found[f"{name} CPU"] = number / seconds, used / number * 1e6
    found["smtp-source"] = number / _run_source(installed("smtp-source"), port, content, number)
    fewer = max(_CONNECTIONS, number // 4)
    if taken := run_composing_nodemailer(folder, port, fewer, _CONNECTIONS):
        found["nodemailer"] = fewer / taken
    if taken := run_nodemailer(port, content, fewer, _CONNECTIONS):
        found["constant"] = fewer / taken
    return found


def _signature_seconds(key_file: Path, message: bytes) -> float:
    """Return the CPU seconds that OpenSSL takes to hash a message and sign the hash with RSA, at least."""
    key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
    assert isinstance(key, RSAPrivateKey)
    taken = []
    for _ in range(200):
        began = time.process_time()
        key.sign(message, padding.PKCS1v15(), hashes.SHA256())
        taken.append(time.process_time() - began)
    return min(taken)


def _far(folder: Path, port: int, content: Path, message: bytes, number: int) -> Iterator[Figure]:
    """Yield messages a second over a round trip of 50 ms, beside what one round trip each allows."""
    fewer = max(_CONNECTIONS, number // 8)
    with delayed(port, _ROUND_TRIP_SECONDS) as far_port:
        ours = number / send(newsletter(folder, far_port), number)[0]
        taken = run_nodemailer(far_port, content, fewer, _CONNECTIONS)
        plain = fewer / run_aiosmtplib(far_port, message, fewer, _CONNECTIONS)
    yield _beside("at 50 ms, beside one round trip each", ours, _CONNECTIONS / _ROUND_TRIP_SECONDS, 0.95)
    if taken is not None:
        yield _beside("at 50 ms, beside nodemailer's pool", ours, fewer / taken, 2)
    yield _beside("at 50 ms, beside aiosmtplib, unsigned", ours, plain)


def _counted(folder: Path, content: Path, number: int, rounds: int) -> Iterator[Figure]:
    """Yield messages a second of one core, ours and smtp-source's, to a server that is not the limit."""
    found: dict[str, list[float]] = {"unsigned": [], "signed": [], "smtp-source": []}
    with counting_sink(3 * rounds * number) as port:
        folders = {name: newsletter(folder / name, port, signed=name == "signed") for name in list(found)[:2]}
        for _ in range(rounds):
            for name, one in folders.items():
                found[name].append(number / send(one, number)[1])
            began = children_seconds()
            _run_source(installed("smtp-source"), port, content, number)
            found["smtp-source"].append(number / (children_seconds() - began))
    peer = statistics.median(found["smtp-source"])
    for name in folders:
        yield _beside(
            f"of one core, {name}, to a server that only counts", statistics.median(found[name]), peer
        )


def _databases(url: str, number: int, rounds: int) -> Iterator[Figure]:
    """Yield messages a second on PostgreSQL beside SQLite, unsigned; then with a delay to the database.

    The server that receives them only counts: smtp-sink would be the limit on SQLite, and share its core with
    PostgreSQL.
    """
    sqlite, near, far = [], [], []
    cpu: dict[str, list[float]] = {"SQLite": [], "PostgreSQL, without the server": []}
    with (
        tempfile.TemporaryDirectory() as scratch,
        counting_sink(3 * rounds * number) as port,
        databases(url) as new_database,
    ):
        folder = newsletter(Path(scratch) / "news", port, signed=False)
        for _ in range(rounds):
            seconds, used = send(folder, number)
            sqlite.append(number / seconds)
            cpu["SQLite"].append(used / number * 1e6)
            with new_database() as here:
                seconds, used = send(folder, number, here)
                near.append(number / seconds)
                cpu["PostgreSQL, without the server"].append(used / number * 1e6)
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
    for name, values in cpu.items():
        yield Figure("send", f"CPU a message on {name}", statistics.median(values), unit="µs")


def _beside(figure: str, ours: float, peer: float, bar: float | None = None) -> Figure:
    """Return messages a second of both; without a bar, the peer does less work than we do."""
    ratio = ours / peer
    if bar is None:
        return Figure("send", figure, ours, peer, ratio, unit="/s")
    return Figure("send", figure, ours, peer, ratio, f">= {bar}", ratio >= bar, "/s")


def _at_most(figure: str, ours: float, bar: float) -> Figure:
    return Figure("send", figure, ours, None, None, f"<= {bar:.0f}", ours <= bar, "µs")


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
    fill(folder, number, url)
    before = children_seconds()
    began = time.perf_counter()
    subprocess.run(
        send_command(folder, program),
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
    return seconds, children_seconds() - before


def send_command(folder: Path, program: Sequence[str] = ("mailer",)) -> list[str]:
    """Return the command that sends the issue of a newsletter."""
    return [sys.executable, "-m", *program, "send", "1", "--yes", "--quiet", "-C", str(folder)]


def fill(folder: Path, number: int, url: str = "sqlite:///subscribers.db") -> None:
    """Make a new database with so many subscribers."""
    for path in folder.glob("subscribers.db*"):
        path.unlink()
    database = Database(url, folder=folder)
    database.open()
    at = now()
    with database.transaction() as connection:
        connection.execute(
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


def children_seconds() -> float:
    """Return the CPU seconds of all commands that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _run_source(source: str, port: int, content: Path, number: int) -> float:
    command = [source, "-s", str(_CONNECTIONS), "-m", str(number), "-d", "-F", str(content)]
    command += ["-f", "b@example.org", "-t", "r@example.com", f"inet:127.0.0.1:{port}"]
    began = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - began
