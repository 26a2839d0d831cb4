"""Replies as mail servers and providers word them, each with what it means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mailer.replies import judge

REPLIES = Path(__file__).with_name("servers.jsonl")


@pytest.mark.parametrize(
    "reply", [json.loads(line) for line in REPLIES.read_text(encoding="utf-8").splitlines()]
)
def test_reply_of_a_known_server_is_read_right(reply: dict[str, Any]) -> None:
    verdict = judge(
        reply["code"], reply["enhanced"], reply["text"], provider=reply["host"], command=reply["command"]
    )
    # `hard` is null where either is right.
    assert reply["hard"] in (None, verdict.hard), verdict
    assert verdict.bounce_class in reply["classes"], verdict
