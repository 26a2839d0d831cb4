"""Time to render one issue from its Markdown file to the frozen edition, in one warm process.

The peer is npm's mjml followed by juice, which puts the styles on the elements, given the MJML, body
and style sheet that our own templates make of the same issue: it is spared the Markdown, the templates
and the text part. Both run warm in a process of their own, and the median round counts.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, Final
from unittest import mock

from benchmarks import Figure
from mailer.config import Brand, Newsletter
from mailer.rendering.build import build_edition
from mailer.rendering.edition import Edition
from mailer.rendering.html.document import BODY, document
from mailer.rendering.source import read_issue

_PROJECT: Final = Path(__file__).parents[1]
_SEED: Final = _PROJECT.parent / "shared" / "seed" / "last-week-in-ai-1.md"
_SAMPLE: Final = _PROJECT / "issues" / "001-a-bean-in-a-jar.md"
_NODE: Final = _PROJECT / "tests" / "install" / "node"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add how many rounds there are."""
    parser.add_argument(
        "--render-rounds", type=int, default=50, help="rounds, of which the median counts (50)"
    )


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Yield milliseconds for the first rendering of the process and for a warm one."""
    path = _SEED if _SEED.exists() else _SAMPLE
    with tempfile.TemporaryDirectory() as scratch:
        # No round is given what an earlier one was: nothing of an issue's own may be kept from it.
        folder = Path(scratch) / "issues"
        shutil.copytree(path.parent, folder)
        copy, text = folder / path.name, path.read_text(encoding="utf-8")
        cold = _timed(copy)
        times = []
        for number in range(20 + options.render_rounds):
            copy.write_text(f"{text}\nThis is round {number}.\n", encoding="utf-8")
            times.append(_timed(copy))
    warm = median(times[20:])
    peer = _peer(path, options.render_rounds)
    yield Figure("render", "first rendering of a process", cold, None, None, "<= 400 ms", cold <= 400, "ms")
    yield Figure(
        "render", "Markdown file to edition, median, warm", warm, None, None, "<= 25 ms", warm <= 25, "ms"
    )
    if peer is not None:
        yield Figure("render", "npm mjml and juice, for comparison", warm, peer, peer / warm, unit="ms")


def _render(path: Path) -> Edition:
    newsletter = Newsletter(name="The Week", author_address="ada@example.org", postal_address="1 Road, Town")
    return build_edition(
        read_issue(path),
        newsletter,
        Brand(),
        _PROJECT / "email_templates",
        public_url="https://news.example.org",
    )


def _timed(path: Path) -> float:
    began = time.perf_counter_ns()
    _render(path)
    return (time.perf_counter_ns() - began) / 1e6


def _peer(path: Path, rounds: int) -> float | None:
    """Return the peer's median in milliseconds; None where its packages are not installed."""
    node = shutil.which("node") or shutil.which("nodejs")
    if node is None or not (_NODE / "node_modules" / ".complete").exists():
        return None
    with mock.patch("mailer.rendering.html.part.document", wraps=document) as filled:
        _render(path)
    mjml, body, css, *_ = filled.call_args.args
    given = json.dumps({"mjml": mjml, "body": body, "mark": BODY, "css": css, "rounds": rounds})
    done = subprocess.run(
        [node, "convert_timed.mjs"], input=given, capture_output=True, text=True, cwd=_NODE, check=True
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return float(told["median_ms"])
