"""SpamAssassin's score for a message, if it is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

TIMEOUT_SECONDS: Final = 20
_SCORE: Final = re.compile(rb"^(-?[\d.]+)/(-?[\d.]+)\s*$", re.MULTILINE)
_RULE: Final = re.compile(r"^\*?\s*(-?\d+(?:\.\d+)?)\s+([A-Z][A-Z0-9_]{2,})\b", re.MULTILINE)


class SpamScore(Struct, frozen=True):
    """The points of the rules that hit; `required` points or more mean spam."""

    score: float
    required: float
    rules: tuple[tuple[str, float], ...]
    """The rules that hit with their points, the worst first."""


def spam_score(message: bytes, *, options: Sequence[str] = ()) -> SpamScore | None:
    """Return the score that spamd gives `message`, or None if spamc or spamd is not available.

    `options` are passed to spamc (`-p PORT`). Whether spamd queries other machines depends on its own
    configuration.
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
    """Parse the output of `spamc -R`; return None if it is something else."""
    found = _SCORE.search(report)
    if found is None:
        return None
    text = report[found.end() :].decode("utf-8", "replace")
    rules = sorted(((name, float(part)) for part, name in _RULE.findall(text)), key=lambda rule: -rule[1])
    score, required = float(found[1]), float(found[2])
    # spamc prints 0/0 if it got no answer.
    return SpamScore(score, required, tuple(rules)) if required else None
