"""Real replies of many providers, scored as the benchmark scores them."""

from __future__ import annotations

import os

import pytest

from benchmarks.bounces import REPLIES, read_labels, score_replies

if not REPLIES.exists() and os.environ.get("CI") != "true":
    pytest.skip(f"no corpus at {REPLIES}", allow_module_level=True)


@pytest.mark.parametrize("question", ["hardness", "soft kept", "class"])
def test_every_reply_of_the_corpus_is_read_right(question: str) -> None:
    score = score_replies(read_labels(REPLIES))
    assert score.share(question) == 100.0, [m for m in score.misses if m["missed"] == question]
