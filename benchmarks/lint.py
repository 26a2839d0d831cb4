"""Time of `mailer lint` as a whole process, beyond what Python itself needs to start.

The issue is the seed issue, or another one by --lint-issue. Byte code is cached, as in an installation.
The figure is the best of several runs, since other work on the machine can only add to it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import Figure
from mailer.config import Settings, load
from mailer.delivery import editions
from mailer.rendering.source import read_issue
from mailer.review import linting

_PROJECT = Path(__file__).parents[1]
_SEED = _PROJECT.parent / "shared" / "seed" / "last-week-in-ai-1.md"
_SAMPLE = _PROJECT / "issues" / "001-a-bean-in-a-jar.md"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add which issue is linted, and how often."""
    parser.add_argument("--lint-runs", type=int, default=15, help="runs, of which the best counts (15)")
    parser.add_argument(
        "--lint-issue",
        type=Path,
        default=_SEED if _SEED.exists() else _SAMPLE,
        help="the issue to lint (the seed issue; the sample issue where there is none)",
    )


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Yield the seconds of wall time and of CPU."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        # PATH without spamc: SpamAssassin's own time is not ours.
        environment["PATH"] = cache
        lint = [sys.executable, "-m", "mailer", "lint", str(options.lint_issue), "-C", str(_PROJECT)]
        nothing = [sys.executable, "-c", "pass"]
        _run(lint, environment)
        ours, start = [], []
        for _ in range(options.lint_runs):
            start.append(_run(nothing, environment))
            ours.append(_run(lint, environment))
    wall = min(run[0] for run in ours) - min(run[0] for run in start)
    cpu = min(run[1] for run in ours) - min(run[1] for run in start)
    yield Figure(
        "lint", "whole process beyond Python's start, wall", wall, bar="<= 0.7 s", holds=wall <= 0.7, unit="s"
    )
    yield Figure("lint", "whole process beyond Python's start, CPU", cpu, unit="s")
    with tempfile.TemporaryDirectory() as scratch:
        yield from _large(Path(scratch), options.lint_runs)


def _large(folder: Path, runs: int) -> Iterator[Figure]:
    """Yield the seconds for an issue of 30 KB with 300 links, and how they grow with its size."""
    path = folder / "large.md"
    path.write_text(_long_issue(1), encoding="utf-8")
    command = [sys.executable, "-m", "mailer", "lint", str(path), "-C", str(_PROJECT)]
    environment = {**os.environ, "PATH": str(folder), "PYTHONPYCACHEPREFIX": str(folder)}
    _run(command, environment)
    measured = [_run(command, environment) for _ in range(max(2, runs // 3))]
    wall, cpu = min(run[0] for run in measured), min(run[1] for run in measured)
    yield Figure("lint", "30 KB with 300 links, whole process", wall, bar="<= 1 s", holds=wall <= 1, unit="s")
    yield Figure("lint", "30 KB with 300 links, whole process, CPU", cpu, unit="s")
    settings = load(_PROJECT / "config.toml")
    editions.build(settings, path)
    rendered = 1_000 * min(_rendered(settings, path) for _ in range(max(3, runs)))
    yield Figure(
        "lint",
        "30 KB with 300 links, rendered, warm",
        rendered,
        bar="<= 250 ms",
        holds=rendered <= 250,
        unit="ms",
    )
    seconds = {}
    for times in (1, 2, 4, 8):
        path.write_text(_long_issue(times), encoding="utf-8")
        seconds[times] = min(_linted(settings, path) for _ in range(3))
        yield Figure("lint", f"render and lint, {times} times 30 KB, warm", seconds[times], unit="s")
    growth = seconds[8] / seconds[1]
    yield Figure("lint", "growth from 1 to 8 times the size", growth, bar="<= 10", holds=growth <= 10)


def _long_issue(times: int) -> str:
    """Return an issue of about 30 KB with 300 links, or of so many times that size."""
    paragraph = "A bean wants almost nothing: see [page {0}](https://example.org/{0}/beans), and water it.\n"
    text = "\n".join(paragraph.format(number) for number in range(300 * times))
    return f"---\ntitle: Beans\npreheader: A long issue\n---\n\n{text}"


def _rendered(settings: Settings, path: Path) -> float:
    """Return the seconds of CPU to render an issue in this process."""
    began = time.process_time()
    editions.build(settings, path)
    return time.process_time() - began


def _linted(settings: Settings, path: Path) -> float:
    """Return the seconds of CPU to render and lint an issue in this process."""
    began = time.process_time()
    linting.examine(settings, read_issue(path), editions.build(settings, path))
    return time.process_time() - began


def _run(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Return the seconds of wall time and of CPU that a command took."""
    began, before = time.perf_counter(), os.times()
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    after = os.times()
    if done.returncode not in (0, 3):
        raise RuntimeError(done.stderr.decode())
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - began, cpu
