"""`make mutants`: change the critical modules, run the tests that reach the change, and print the score.

Which tests reach which line is measured first, by running the rooms once under coverage. A change that
no test of this process reaches runs its rooms as a whole, since they start other processes too.
The sample is the same for the same seed and sources. Survivors that change nothing a test could see are
listed, with the reason, in accepted.toml; they don't count. Below 92 % the exit code is 1.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from pathlib import Path
from typing import Final

import coverage

from tests.mutation.mutations import Mutation, mutations

PROJECT: Final = Path(__file__).parents[2]
BAR_PERCENT: Final = 92
TIMEOUT_SECONDS: Final = 600
TEST_TIMEOUT_SECONDS: Final = 90
"""A change that makes a test hang is noticed."""
MOST_TESTS: Final = 120
"""A change that the nearest of its tests don't notice counts as survived; the others would take hours."""
ROOMS: Final = {
    "mailer/address.py": ("tests/audience", "tests/config"),
    "mailer/audience/ledger.py": ("tests/audience",),
    "mailer/audience/segments.py": ("tests/audience",),
    "mailer/audience/subscribers.py": ("tests/audience",),
    "mailer/audience/suppression.py": ("tests/audience",),
    "mailer/bounces/effects.py": ("tests/bounces",),
    "mailer/bounces/matching.py": ("tests/bounces",),
    "mailer/bounces/policy.py": ("tests/bounces",),
    "mailer/database/session.py": ("tests/database",),
    "mailer/delivery/candidates.py": ("tests/delivery",),
    "mailer/delivery/canary.py": ("tests/delivery",),
    "mailer/delivery/control.py": ("tests/delivery",),
    "mailer/delivery/issues.py": ("tests/delivery",),
    "mailer/delivery/judging.py": ("tests/delivery",),
    "mailer/delivery/outcomes.py": ("tests/delivery",),
    "mailer/delivery/queue.py": ("tests/delivery",),
    "mailer/delivery/sender.py": ("tests/delivery",),
    "mailer/delivery/window.py": ("tests/delivery",),
    "mailer/replies/judge.py": ("tests/replies",),
    "mailer/replies/verdict.py": ("tests/replies",),
    "mailer/smtp/limits.py": ("tests/smtp", "tests/delivery"),
    "mailer/smtp/pool.py": ("tests/smtp", "tests/delivery"),
    "mailer/smtp/session.py": ("tests/smtp", "tests/delivery"),
    "mailer/smtp/worker.py": ("tests/smtp", "tests/delivery"),
    "mailer/smtp/wire.py": ("tests/smtp", "tests/delivery"),
    "mailer/tokens.py": ("tests/test_tokens.py",),
    "mailer/web/public/admission.py": ("tests/web/test_admission.py",),
}
"""The critical modules, and the tests that have to notice."""
_NOT_COPIED: Final = shutil.ignore_patterns(
    ".git", ".venv*", ".*_cache", "__pycache__", ".hypothesis", "site"
)


def main() -> int:
    """Run the sample and return the exit code."""
    options = _options()
    accepted = _accepted()
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch, "project")
        shutil.copytree(options.tree, tree, ignore=_NOT_COPIED, symlinks=True)
        if (shared := options.tree.parent / "shared").exists():
            Path(scratch, "shared").symlink_to(shared)
        sample = _sample(tree, options.module or list(ROOMS), options.sample, options.seed)
        reached, unfit = _measured(tree, sorted({room for module, _ in sample for room in ROOMS[module]}))
        results: Counter[str] = Counter()
        for number, (module, mutation) in enumerate(sample, 1):
            reason = accepted.get((module, mutation.name))
            result = "accepted" if reason else _try(tree, module, mutation, reached, unfit)
            results[result] += 1
            print(f"{number}/{len(sample)} {result} {module}:{mutation.line} {mutation.name}", flush=True)
    counted = len(sample) - results["accepted"]
    score = 100 * (counted - results["survived"]) / max(counted, 1)
    print(f"{dict(results)}: {score:.1f} % of {counted} noticed; the bar is {BAR_PERCENT} %")
    return int(score < BAR_PERCENT)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--sample", type=int, default=200, help="how many mutations to try (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="which ones (%(default)s)")
    parser.add_argument("--module", action="append", choices=list(ROOMS), help="only this module; repeatable")
    parser.add_argument("--tree", type=Path, default=PROJECT, help="another checkout to measure")
    return parser.parse_args()


def _accepted() -> dict[tuple[str, str], str]:
    tables = tomllib.loads(Path(__file__).with_name("accepted.toml").read_text(encoding="utf-8"))
    return {(one["module"], one["change"]): one["reason"] for one in tables.get("accepted", [])}


def _sample(tree: Path, modules: list[str], number: int, seed: int) -> list[tuple[str, Mutation]]:
    found = [
        (module, mutation)
        for module in sorted(modules)
        if (tree / module).exists()
        for mutation in mutations((tree / module).read_text(encoding="utf-8"))
    ]
    return random.Random(seed).sample(found, min(number, len(found)))


def _measured(tree: Path, rooms: list[str]) -> tuple[coverage.CoverageData, set[str]]:
    """Run the rooms' tests once; return which of them reach which lines, and those that failed unchanged."""
    data = tree / ".coverage"
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-rfE", "-n", "auto", "--dist", "loadfile"),
        *("--cov=mailer", "--cov-context=test", "--cov-report=", *rooms),
    ]
    print("measuring which tests reach which lines", flush=True)
    done = subprocess.run(
        command, cwd=tree, env=_environment(tree), capture_output=True, text=True, check=False
    )
    if not data.exists():
        sys.exit(f"the tests cannot be run:\n{done.stdout[-3000:]}")
    unfit = set(re.findall(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", done.stdout, re.MULTILINE))
    for test in sorted(unfit):
        print(f"left out, since it fails without any change: {test}", flush=True)
    measured = coverage.CoverageData(str(data))
    measured.read()
    return measured, unfit


def _try(tree: Path, module: str, mutation: Mutation, reached: coverage.CoverageData, unfit: set[str]) -> str:
    """Return what became of one mutation: killed, timeout or survived."""
    path = tree / module
    by_line = reached.contexts_by_lineno(str(path))
    tests = {
        context.rpartition("|")[0]
        for line in range(mutation.line, mutation.last_line + 1)
        for context in by_line.get(line, [])
        if context
    }
    before = path.read_text(encoding="utf-8")
    _write(path, mutation.source())
    try:
        return _tests(tree, _nearest(path.stem, tests - unfit) or list(ROOMS[module]))
    finally:
        _write(path, before)


def _write(path: Path, source: str) -> None:
    """Write a module with a time of its own: bytecode is kept by size and by the second."""
    second = int(path.stat().st_mtime) + 1
    path.write_text(source, encoding="utf-8")
    os.utime(path, (second, second))


def _nearest(module: str, tests: set[str]) -> list[str]:
    """Return the tests named after the module first, then the others, evenly chosen from all their files."""
    ordered = sorted(tests, key=lambda test: ("postgresql" in test, test))
    near = [test for test in ordered if f"test_{module}.py" in test][:MOST_TESTS]
    far = [test for test in ordered if f"test_{module}.py" not in test]
    room = MOST_TESTS - len(near)
    return near + (far if len(far) <= room else [far[place * len(far) // room] for place in range(room)])


def _tests(tree: Path, paths: list[str]) -> str:
    workers = "0" if paths[0].count("::") else "auto"
    command = [
        *(sys.executable, "-m", "pytest", "-x", "-q", "-n", workers, "--dist", "loadfile"),
        *("-p", "no:cacheprovider", "--timeout", str(TEST_TIMEOUT_SECONDS), "--hypothesis-seed", "0"),
        *paths,
    ]
    try:
        done = subprocess.run(
            command,
            cwd=tree,
            env=_environment(tree),
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "timeout"
    return "killed" if done.returncode else "survived"


def _environment(tree: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(tree)}


if __name__ == "__main__":
    sys.exit(main())
