"""`make mutants`: change the critical modules, run the tests that reach the change, and print the score.

Which tests reach which line, and how long they take, is measured first, by running the rooms once under
coverage. Each change then gets the near and the short ones of its tests. What fails is run once more: only
a test that fails twice has noticed the change.
The sample is the same for the same seed and sources. Survivors that change nothing a test could see are
listed, with the reason, in accepted.toml; they don't count. Below 92 % the exit code is 1.
Measurements and results are kept in .mutants.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Final

from tests.mutation import forked
from tests.mutation.mutations import Mutation, mutations
from tests.mutation.reach import Reach, measured
from tests.mutation.trial import Job, Place, Result

PROJECT: Final = Path(__file__).parents[2]
BAR_PERCENT: Final = 92
TESTS_SECONDS: Final = 300
"""A change that so many seconds of its tests don't notice counts as survived; the others would take hours."""
_MEMORY: Final = Path("/dev/shm")
ROOMS: Final = {
    "mailer/address.py": ("tests/audience", "tests/config", "tests/test_address_bounds.py"),
    "mailer/audience/ledger.py": ("tests/audience",),
    "mailer/audience/segments.py": ("tests/audience",),
    "mailer/audience/subscribers.py": ("tests/audience",),
    "mailer/audience/suppression.py": ("tests/audience",),
    "mailer/bounces/effects.py": ("tests/bounces",),
    "mailer/bounces/matching.py": ("tests/bounces",),
    "mailer/bounces/policy.py": ("tests/bounces",),
    "mailer/database/engine.py": ("tests/database",),
    "mailer/delivery/candidates.py": ("tests/delivery",),
    "mailer/delivery/canary.py": ("tests/delivery",),
    "mailer/delivery/control.py": ("tests/delivery", "tests/webhooks"),
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


def main() -> int:
    """Run the sample and return the exit code."""
    options = _options()
    tree: Path = options.tree.resolve()
    keep = tree / ".mutants"
    keep.mkdir(exist_ok=True)
    sample = _sample(tree, options.module or list(ROOMS), options.sample, options.seed)
    left_out = accepted(tree)
    counted = [(module, one) for module, one in sample if (module, one.name, one.line) not in left_out]
    modules = sorted({module for module, _ in sample})
    rooms = sorted({room for module in modules for room in ROOMS[module]})
    forked.import_packages()
    with tempfile.TemporaryDirectory(prefix="m", dir=_MEMORY if _MEMORY.is_dir() else None) as scratch:
        # PostgreSQL doesn't run as root, and its files are below.
        Path(scratch).chmod(0o711)
        reach = measured(tree, keep, Path(scratch), rooms, modules, options.jobs)
        jobs = [_job(reach, module, mutation, options.seconds) for module, mutation in counted]
        results = _results(tree, keep, Path(scratch), jobs, options)
        noticed = sum(one.result != "survived" for one in results)
    score = 100 * noticed / max(len(jobs), 1)
    print(
        f"{noticed} of {len(jobs)} noticed, {score:.1f} %, and {len(sample) - len(jobs)} accepted; "
        f"the bar is {BAR_PERCENT} %"
    )
    return int(score < BAR_PERCENT)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--sample", type=int, default=200, help="how many mutations to try (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="which ones (%(default)s)")
    parser.add_argument("--module", action="append", choices=list(ROOMS), help="only this module; repeatable")
    parser.add_argument("--tree", type=Path, default=PROJECT, help="another checkout to measure")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="how many at once (%(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=TESTS_SECONDS, help="of tests for each mutation (%(default)s)"
    )
    parser.add_argument("--resume", action="store_true", help="go on where the last run was interrupted")
    parser.add_argument("--again", action="store_true", help="try what survived the last run again")
    return parser.parse_args()


def accepted(tree: Path) -> set[tuple[str, str, int]]:
    """Return the module, change and line of each accepted mutation."""
    tables = tomllib.loads(Path(__file__).with_name("accepted.toml").read_text(encoding="utf-8"))
    return {
        (one["module"], one["change"], number)
        for one in tables["accepted"]
        for number, line in enumerate((tree / one["module"]).read_text(encoding="utf-8").splitlines(), 1)
        if one.get("line", line.strip()) == line.strip()
    }


def _sample(tree: Path, modules: list[str], number: int, seed: int) -> list[tuple[str, Mutation]]:
    found = [
        (module, mutation)
        for module in sorted(modules)
        if (tree / module).exists()
        for mutation in mutations((tree / module).read_text(encoding="utf-8"))
    ]
    return random.Random(seed).sample(found, min(number, len(found)))


def _job(reach: Reach, module: str, mutation: Mutation, seconds: float) -> Job:
    near, far = (reach.limits(tests) for tests in reach.selected(module, mutation, seconds))
    return Job(module, f"{module}:{mutation.line} {mutation.name}", mutation.source(), near, far)


def _results(
    tree: Path, keep: Path, scratch: Path, jobs: list[Job], options: argparse.Namespace
) -> Iterable[Result]:
    """Yield the results of all jobs, after those that are kept from the last run."""
    path = keep / "results.jsonl"
    last: dict[str, Result] = {}
    if (options.resume or options.again) and path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            one = Result(**json.loads(line))
            last[one.key] = one
    kept = [
        last[job.key]
        for job in jobs
        if job.key in last and not (options.again and last[job.key].result == "survived")
    ]
    keys = {one.key for one in kept}
    to_try = [job for job in jobs if job.key not in keys]
    print(f"trying {len(to_try)} changes; {len(kept)} are known from the last run", flush=True)
    yield from kept
    path.write_text("".join(json.dumps(asdict(one)) + "\n" for one in kept), encoding="utf-8")
    with (
        multiprocessing.get_context("fork").Pool(options.jobs) as pool,
        path.open("a", encoding="utf-8") as file,
    ):
        tried = pool.imap_unordered(partial(_try, tree, scratch), to_try)
        for number, one in enumerate(tried, 1):
            print(
                f"{number}/{len(to_try)} {one.result} {one.change} ({one.by}, {one.seconds:.0f} s)",
                flush=True,
            )
            print(json.dumps(asdict(one)), file=file, flush=True)
            yield one


def _try(tree: Path, scratch: Path, job: Job) -> Result:
    return Place.of_this_process(tree, scratch).result(job)


if __name__ == "__main__":
    sys.exit(main())
