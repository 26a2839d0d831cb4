"""Bounces written for this project after what receivers say, in many dialects and languages.

`mails/` has the layout of any labelled corpus: `labels.jsonl` and the mails, none of them anybody's.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from benchmarks.bounces import Score, read_labels, score_rows

FOLDER = Path(__file__).parent / "mails"


@cache
def score() -> Score:
    rows = read_labels(FOLDER / "labels.jsonl")
    return score_rows(rows, {row["file"]: (FOLDER / row["file"]).read_bytes() for row in rows})


@pytest.mark.parametrize(
    ("question", "bar"),
    [("recipients", 99.0), ("no foreign", 100.0), ("hardness", 97.0), ("soft kept", 100.0), ("class", 97.0)],
)
def test_our_own_messages_are_read_above_the_bar(question: str, bar: float) -> None:
    missed = [miss for miss in score().misses if miss["missed"] == question]
    assert score().share(question) >= bar, missed


def test_every_mail_has_a_label_and_every_label_a_mail() -> None:
    labelled = {row["file"] for row in read_labels(FOLDER / "labels.jsonl")}
    assert {path.name for path in FOLDER.glob("*.eml")} == labelled
