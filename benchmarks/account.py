"""Where each microsecond of CPU of a whole `mailer send` goes, unsigned and signed.

The parts are measured inside the run, with all threads, by a timer of CPU time; the process that signs is a
part of its own, and so is what starts before the first message and after the last. So the sum is the whole;
the line "the parts together" compares them. Garbage collection and the kernel's share are inside the other
parts.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import Figure
from benchmarks._sampled import SIGNING_PROCESS
from benchmarks._sink import sink
from benchmarks.send import newsletter, send

PARTS: Final = (
    ("sign, in a process", (SIGNING_PROCESS,)),
    (
        "sign",
        (
            "mailer/smtp/dkim.py",
            "mailer/smtp/signing.py",
            "mailer/children.py",
            "mailer/rendering/message/composer.py:signature",
            "mailer/rendering/message/composer.py:body_digest",
        ),
    ),
    (
        "opt-outs",
        (
            "mailer/delivery/window.py:_may_begin",
            "mailer/delivery/candidates.py:mailable_now",
            "mailer/database/watcher.py",
        ),
    ),
    (
        "compose",
        (
            "mailer/rendering/message/composer.py:compose",
            "mailer/rendering/message/composer.py:draft",
            "mailer/rendering/message/composer.py:message",
            "mailer/delivery/ahead.py",
        ),
    ),
    ("write", ("mailer/smtp/wire.py:write",)),
    (
        "read",
        ("mailer/smtp/wire.py:data_received", "mailer/smtp/wire.py:feed", "mailer/smtp/wire.py:read"),
    ),
    ("claim", ("mailer/delivery/queue.py:claim",)),
    ("settle", ("mailer/delivery/bookkeeping.py:_write", "mailer/delivery/outcomes.py")),
    ("database, otherwise", ("mailer/delivery/bookkeeping.py", "mailer/database/")),
    ("SMTP dialogue", ("mailer/smtp/",)),
    ("the run, otherwise", ("mailer/delivery/sender.py",)),
    ("event loop", ("uvloop/",)),
    ("threads", ("concurrent/futures/thread.py",)),
    ("start and end", ("mailer/cli/", "importlib", "benchmarks/", "runpy")),
)
"""Each part, with the functions or files that belong to it; the outermost of the first that fits decides."""


_LONG_MILLISECONDS: Final = 2


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the number of messages."""
    parser.add_argument("--account-subscribers", type=int, default=20_000, metavar="N", help="for 'account'")


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Yield the microseconds of each part a message, and their sum beside the whole."""
    number = options.account_subscribers
    with tempfile.TemporaryDirectory() as scratch, sink() as port:
        for kind in ("unsigned", "signed"):
            folder = newsletter(Path(scratch) / kind, port, signed=kind == "signed")
            report = Path(scratch) / f"{kind}.json"
            send(folder, number, program=("benchmarks._sampled", str(report)))
            yield from _figures(kind, json.loads(report.read_text(encoding="utf-8")), number)
            send(folder, number, program=("benchmarks._turns", str(report)))
            yield _held(kind, json.loads(report.read_text(encoding="utf-8")))


def _figures(kind: str, account: dict[str, Any], number: int) -> Iterator[Figure]:
    parts: Counter[str] = Counter()
    for stack, seconds in account["stacks"]:
        parts[_part(stack)] += seconds
    a_message = 1e6 / number
    for part, seconds in parts.most_common():
        yield Figure("account", f"{kind}: {part}", seconds * a_message, unit="µs")
    whole, together = account["total"] * a_message, parts.total() * a_message
    yield Figure(
        "account", f"{kind}: garbage collection, inside them", account["garbage"] * a_message, unit="µs"
    )
    yield Figure("account", f"{kind}: kernel, inside them", account["kernel"] * a_message, unit="µs")
    yield Figure(
        "account", f"{kind}: the parts together", together, whole, together / whole,
        "within 5 % of the whole", abs(together / whole - 1) <= 0.05, "µs",
    )  # fmt: skip


def _held(kind: str, calls: Sequence[float]) -> Figure:
    """Return how many calls of the event loop took long; the first of each kind may."""
    long = sum(one > _LONG_MILLISECONDS for one in calls)
    return Figure(
        "account", f"{kind}: calls of the event loop that took over {_LONG_MILLISECONDS} ms, in 10,000",
        long / len(calls) * 10_000, bar="<= 5", holds=long / len(calls) <= 0.0005,
    )  # fmt: skip


def _part(stack: Sequence[str]) -> str:
    """Return the part that a stack belongs to: the one of the innermost function that has one."""
    for function in stack:
        for part, places in PARTS:
            if any(place in function for place in places):
                return part
    return "other"
