"""Real bounces of many systems, scored as the benchmark scores them."""

from __future__ import annotations

import os
import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from benchmarks.bounces import CORPUS, Score, read_labels, score_rows
from mailer.bounces.reading.report import ReportKind, parse_report

if not CORPUS.exists() and os.environ.get("CI") != "true":
    pytest.skip(f"no corpus at {CORPUS}", allow_module_level=True)

TOKEN = "aeaqcaimkg2x3yz7abcdefghijklmnop"


@cache
def rows() -> list[dict[str, Any]]:
    return read_labels(CORPUS / "labels.jsonl")


@cache
def mails() -> dict[str, bytes]:
    return {row["file"]: Path(CORPUS, "mails", row["file"]).read_bytes() for row in rows()}


@cache
def score() -> Score:
    return score_rows(rows(), mails())


@pytest.mark.parametrize(
    ("question", "bar"),
    [
        ("recipients", 98.0),
        ("no foreign", 99.0),
        ("hardness", 97.0),
        ("soft kept", 99.0),
        ("class", 90.0),
        ("complaint", 100.0),
        ("not a bounce", 100.0),
    ],
)
def test_corpus_is_read_above_the_bar(question: str, bar: float) -> None:
    assert score().share(question) >= bar, [m for m in score().misses if m["missed"] == question]


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n", b"\r"])
def test_line_ends_change_nothing(line_end: bytes) -> None:
    for name, raw in mails().items():
        plain = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        expected, got = parse_report(plain), parse_report(plain.replace(b"\n", line_end))
        assert (name, got.kind, [r.address for r in got.recipients]) == (
            name,
            expected.kind,
            [r.address for r in expected.recipients],
        )


SHARES = range(4)
"""What takes long is done in parts, so that several processes share it."""


@pytest.mark.parametrize("share", SHARES)
def test_every_mail_cut_at_twenty_places_is_read(share: int) -> None:
    chosen = random.Random(share)
    for raw in list(mails().values())[share :: len(SHARES)]:
        for _ in range(20):
            assert parse_report(raw[: chosen.randrange(len(raw) + 1)]).kind in ReportKind


@pytest.mark.parametrize("share", SHARES)
def test_four_thousand_damaged_messages_are_read(share: int) -> None:
    chosen = random.Random(share)
    whole = list(mails().values())
    for _ in range(4_000 // len(SHARES)):
        raw = chosen.choice(whole)
        for _ in range(chosen.randint(1, 6)):
            raw = damaged(chosen, raw, chosen.choice(whole))
        for one in parse_report(raw).recipients:
            assert len(one.diagnostic) <= 512
            assert one.verdict is None or not (one.verdict.hard and one.verdict.enhanced.startswith("4"))


def damaged(chosen: random.Random, raw: bytes, other: bytes) -> bytes:
    """Return a mail with one fault: octets or a line changed, doubled, lost, moved, or another mail's."""
    at, length = chosen.randrange(len(raw) + 1), chosen.choice((1, 1, 8, 60, 400))
    before, taken, after = raw[:at], raw[at : at + length], raw[at + length :]
    lines = raw.split(b"\n")
    line = chosen.randrange(len(lines))
    return chosen.choice(
        (
            before + chosen.randbytes(length) + after,
            before + after,
            before + taken * 3 + after,
            before + other[at : at + 10 * length] + taken + after,
            b"\n".join([*lines[:line], *lines[line + 1 :]]),
            b"\n".join([*lines[:line], lines[line].swapcase(), *lines[line + 1 :]]),
            b"\n".join([*lines[line:], *lines[:line]]),
            raw.replace(b"\n\n", b"\n", 1),
        )
    )


def test_return_path_is_found_in_every_bounce() -> None:
    own = f"To: <b.{TOKEN}@bounce.example.org>\r\n".encode()
    for name, raw in mails().items():
        head = raw[raw.find(b"\n") + 1 :] if raw.startswith(b"From ") else raw
        assert (name, parse_report(own + head).envelope_tokens[:1]) == (name, (TOKEN,))


def test_auto_replies_and_success_reports_are_no_bounces() -> None:
    for row in rows():
        if row["kind"] in ("autoreply", "delivered"):
            assert parse_report(mails()[row["file"]]).kind in (ReportKind.AUTO_REPLY, ReportKind.DELIVERED)
