"""Real bounces of many systems, scored as the benchmark scores them."""

from __future__ import annotations

import os
import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from benchmarks.bounces import CORPUS, Score, read_labels, score_rows
from mailer.bounces.report import ReportKind, parse_report

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


def test_mail_cut_anywhere_is_read() -> None:
    chosen = random.Random(7)
    for raw in mails().values():
        for _ in range(3):
            assert parse_report(raw[: chosen.randrange(len(raw) + 1)]).kind in ReportKind


def test_return_path_is_found_in_every_bounce() -> None:
    own = f"To: <b.{TOKEN}@bounce.example.org>\r\n".encode()
    for name, raw in mails().items():
        head = raw[raw.find(b"\n") + 1 :] if raw.startswith(b"From ") else raw
        assert (name, parse_report(own + head).envelope_tokens[:1]) == (name, (TOKEN,))


def test_auto_replies_and_success_reports_are_no_bounces() -> None:
    for row in rows():
        if row["kind"] in ("autoreply", "delivered"):
            assert parse_report(mails()[row["file"]]).kind in (ReportKind.AUTO_REPLY, ReportKind.DELIVERED)
