"""One change, tried in a copy of the tree."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from tests.mutation import forked

_NOT_COPIED: Final = shutil.ignore_patterns(
    ".git", ".venv*", ".*_cache", ".coverage*", ".mutants", "__pycache__", ".hypothesis", "site"
)


@dataclass(frozen=True, slots=True)
class Job:
    """One change to try: the whole module with it, and the limits of the near tests and of the others."""

    module: str
    change: str
    source: str
    near: dict[str, float]
    far: dict[str, float]

    @property
    def key(self) -> str:
        """What identifies the changed module among the kept results."""
        return hashlib.sha256(f"{self.module}\n{self.source}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a change: killed, timeout or survived, by which test, and in how many seconds."""

    key: str
    change: str
    result: str
    by: str
    seconds: float


class Place:
    """A copy of the tree, in which one process tries changes."""

    def __init__(self, tree: Path, folder: Path) -> None:
        self._folder = folder
        self._tree = folder / "project"
        self._unchanged: set[str] = set()
        """Tests that have passed here without any change."""
        shutil.copytree(tree, self._tree, ignore=_NOT_COPIED, symlinks=True)
        if (shared := tree.parent / "shared").exists():
            (folder / "shared").symlink_to(shared)

    @classmethod
    @cache
    def of_this_process(cls, tree: Path, scratch: Path) -> Place:
        """Return the copy that this process has made at its first call."""
        return cls(tree, scratch / str(os.getpid()))

    def result(self, job: Job) -> Result:
        """Try a change: the near tests first, then the others."""
        began = time.monotonic()
        path = self._tree / job.module
        before = path.read_text(encoding="utf-8")
        try:
            noticed = self._noticed(job.near, path, before, job.source) or self._noticed(
                job.far, path, before, job.source
            )
        finally:
            _write(path, before)
        result = "survived" if not noticed else "timeout" if noticed.timed_out else "killed"
        by = noticed.failed[0] if noticed else f"{len(job.near)} + {len(job.far)} tests"
        return Result(job.key, job.change, result, by, time.monotonic() - began)

    def _noticed(
        self, limits: dict[str, float], path: Path, before: str, changed: str
    ) -> forked.Outcome | None:
        """Run tests until one fails twice with the change and passes without; return how it failed.

        One that doesn't is left out: it is disturbed by whatever else the machine does.
        """
        while limits:
            _write(path, changed)
            outcome = self._run(limits)
            if not outcome.failed:
                return None
            # A file that cannot be imported fails as a whole.
            failed = [test for test in limits if test.startswith(outcome.failed[0])][:1] or list(limits)
            one = {test: limits[test] for test in failed}
            if (again := self._run(one)).failed:
                _write(path, before)
                if self._unchanged.issuperset(failed) or not self._run(one).failed:
                    self._unchanged.update(failed)
                    return again
            print(f"left out, since it does not always fail or pass: {', '.join(failed)}", flush=True)
            limits = {test: limit for test, limit in limits.items() if test not in one}
        return None

    def _run(self, limits: dict[str, float]) -> forked.Outcome:
        files = dict.fromkeys(test.partition("::")[0] for test in limits)
        return forked.run(self._tree, self._folder, ["-x", *files], limits)


def _write(path: Path, source: str) -> None:
    """Write a module with a time of its own: bytecode is kept by size and by the second."""
    second = int(path.stat().st_mtime) + 1
    path.write_text(source, encoding="utf-8")
    os.utime(path, (second, second))
