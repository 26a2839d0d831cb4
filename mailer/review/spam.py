"""What SpamAssassin thinks of a message, if it is on this machine."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

TIMEOUT_SECONDS: Final = 20
_SCORE: Final = re.compile(rb"^(-?[\d.]+)/(-?[\d.]+)\s*$", re.MULTILINE)
_RULE: Final = re.compile(r"^\*?\s*(-?\d+(?:\.\d+)?)\s+([A-Z][A-Z0-9_]{2,})\b", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class SpamScore:
    """SpamAssassin's sum over its rules; from `required` on it calls a message spam."""

    score: float
    required: float
    rules: tuple[tuple[str, float], ...]
    """The rules that hit, each with its part of the score; the worst first."""


def spam_score(message: bytes, *, options: Sequence[str] = ()) -> SpamScore | None:
    """Return what spamd says of `message`, or None where spamc or spamd is not to be had.

    `options` are spamc's own (`-p PORT`). Whether other machines are asked is for spamd's
    configuration to say.
    """
    spamc = shutil.which("spamc")
    if spamc is None:
        return None
    try:
        asked = subprocess.run(
            [spamc, "-R", "-x", "-t", str(TIMEOUT_SECONDS), "--connect-retries=1", *options],
            input=message,
            capture_output=True,
            timeout=TIMEOUT_SECONDS + 5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_report(asked.stdout)


def parse_report(report: bytes) -> SpamScore | None:
    """Return the score and the rules of `spamc -R`, or None if it is no such report."""
    found = _SCORE.search(report)
    if found is None:
        return None
    text = report[found.end() :].decode("utf-8", "replace")
    rules = sorted(((name, float(part)) for part, name in _RULE.findall(text)), key=lambda rule: -rule[1])
    score, required = float(found[1]), float(found[2])
    # spamd says 0/0 when it could not look.
    return SpamScore(score, required, tuple(rules)) if required else None
