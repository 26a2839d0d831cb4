"""Which tests reach which lines, how long they take, and which of them a change of a line needs."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

import coverage

from tests.mutation import forked
from tests.mutation.mutations import Mutation

LEAST_LIMIT_SECONDS: Final = 40
LIMIT_FACTOR: Final = 10
"""How many times as long as measured a test may take: on a busy machine, a test that waits is no finding."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What a run of all tests of the rooms measured: seconds by test, and the tests that reach each line."""

    seconds: dict[str, float]
    lines: dict[str, dict[int, list[str]]]

    def selected(self, module: str, mutation: Mutation, budget: float) -> tuple[list[str], list[str]]:
        """Return the tests to run for a change, near ones and others: no more than `budget` seconds of them.

        Near are those in the file named after the module; they get half of the time at most. The shortest
        are chosen. If no test reaches the line, it runs during the import or in a command that a test
        starts: any test could notice.
        """
        by_line = self.lines.get(module, {})
        of_module = {test for tests in by_line.values() for test in tests}
        reaching = {
            test
            for line in range(mutation.line, mutation.last_line + 1)
            for test in by_line.get(line, [])
            if test in self.seconds
        }
        name = f"test_{PurePath(module).stem}.py"
        possible = sorted(
            reaching or self.seconds, key=lambda test: (test not in of_module, self._cost(test))
        )
        near = self._within(budget / 2, (test for test in possible if _name(test) == name))
        left = budget - sum(self.seconds[test] for test in near)
        return near, self._by_file(self._within(left, (test for test in possible if _name(test) != name)))

    def _within(self, budget: float, tests: Iterable[str]) -> list[str]:
        chosen: list[str] = []
        for test in tests:
            budget -= self.seconds[test]
            if budget < 0 and chosen:
                break
            chosen.append(test)
        return chosen

    def limits(self, tests: Iterable[str]) -> dict[str, float]:
        """Return how many seconds each test may take."""
        return {test: max(LEAST_LIMIT_SECONDS, LIMIT_FACTOR * self.seconds[test]) for test in tests}

    def _cost(self, test: str) -> float:
        # The first test on PostgreSQL starts a server.
        return self.seconds[test] + ("postgresql" in test)

    def _by_file(self, tests: Iterable[str]) -> list[str]:
        """Order tests so that those of a file stay together, and the shortest files come first."""
        files: dict[str, list[str]] = {}
        for test in tests:
            files.setdefault(_file(test), []).append(test)
        ordered = sorted(files.values(), key=lambda of_file: sum(map(self._cost, of_file)))
        return [test for of_file in ordered for test in of_file]


def measured(tree: Path, keep: Path, scratch: Path, rooms: list[str], modules: list[str], jobs: int) -> Reach:
    """Run the rooms' tests under coverage; the files that haven't changed since the last time are not run.

    Tests that fail without any change are printed and left out.
    """
    data, notes = keep / "coverage", keep / "tests.json"
    digests = {file: _digest(tree / file) for room in rooms for file in _test_files(tree, room)}
    sources = "".join(_digest(path) for path in sorted(tree.glob("mailer/**/*.py")))
    kept = json.loads(notes.read_text(encoding="utf-8")) if notes.exists() else {}
    if kept.get("sources") != sources:
        kept = {"sources": sources, "files": {}}
        data.unlink(missing_ok=True)
    files = kept["files"]
    if new := [file for file, digest in digests.items() if files.get(file, {}).get("digest") != digest]:
        print(f"measuring which lines the tests in {len(new)} files reach", flush=True)
        files |= {file: {"digest": digests[file], "seconds": {}} for file in new}
        outcome = _covered(tree, scratch, data, new, jobs)
        for test, took in outcome.seconds.items():
            if test in outcome.failed:
                print(f"left out, since it fails without any change: {test}", flush=True)
            else:
                files[_file(test)]["seconds"][test] = took
        notes.write_text(json.dumps(kept), encoding="utf-8")
    seconds = {test: took for file in digests for test, took in files[file]["seconds"].items()}
    return Reach(seconds, _lines(tree, data, modules))


def _covered(tree: Path, scratch: Path, data: Path, files: list[str], jobs: int) -> forked.Outcome:
    os.environ["COVERAGE_FILE"] = str(data)
    outcome = forked.run(
        tree,
        scratch,
        [
            *("-m", "not stress", "-n", str(jobs), "--dist", "loadfile"),
            *("--cov=mailer", "--cov-context=test", "--cov-report=", "--cov-append", *files),
        ],
    )
    del os.environ["COVERAGE_FILE"]
    if not outcome.seconds or not data.exists():
        sys.exit(f"the tests cannot be run:\n{(scratch / 'output').read_text(encoding='utf-8')[-3000:]}")
    return outcome


def _lines(tree: Path, data: Path, modules: list[str]) -> dict[str, dict[int, list[str]]]:
    measured = coverage.CoverageData(str(data))
    measured.read()
    return {
        module: {
            line: [context.rpartition("|")[0] for context in contexts if context]
            for line, contexts in measured.contexts_by_lineno(str(tree / module)).items()
        }
        for module in modules
    }


def _test_files(tree: Path, room: str) -> list[str]:
    path = tree / room
    found = sorted(path.glob("**/test_*.py")) if path.is_dir() else [path]
    return [one.relative_to(tree).as_posix() for one in found]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _file(test: str) -> str:
    return test.partition("::")[0]


def _name(test: str) -> str:
    return _file(test).rpartition("/")[2]
