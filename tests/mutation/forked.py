"""Tests run in forked processes, which have what takes seconds to import already."""

from __future__ import annotations

import importlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import pytest

MOST_OCTETS: Final = 4 * 2**30
"""A change that fills the memory ends its own process, not the machine."""
_COLLECTION_SECONDS: Final = 300
_ALL_SECONDS: Final = 3600
_OPTIONS: Final = (
    *("-q", "-rfE", "-p", "no:cacheprovider", "--hypothesis-profile", "quick"),
    # What the tests assert with is imported before pytest can rewrite it.
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
    # An event loop that waits for a hanging task catches the exception that pytest-timeout raises.
    *("--timeout", "0"),
)
_BROKEN: Final = 70
"""The exit code of a process that could not run pytest at all."""
_IMPORTED: Final = (
    *("aiosmtpd.smtp", "aiosmtplib", "alembic", "anyio", "babel.dates", "cryptography.x509", "dkim"),
    *("dns.asyncresolver", "httpx2", "hypothesis.strategies", "jinja2", "lark", "lxml.etree", "msgspec"),
    *("nacl.signing", "psycopg", "pyrage", "sqlalchemy.dialects.postgresql.psycopg"),
    *("sqlalchemy.dialects.sqlite", "uvloop", "yaml"),
)


@dataclass(slots=True)
class Outcome:
    """What a run of tests said.

    `failed` names the tests that failed, or what else did; `timed_out` says that one of them took too long.
    """

    failed: list[str] = field(default_factory=list)
    timed_out: bool = False
    seconds: dict[str, float] = field(default_factory=dict)


def import_packages() -> None:
    """Import what the tests need, except the code that changes."""
    for name in _IMPORTED:
        with suppress(ImportError):
            importlib.import_module(name)


def run(tree: Path, scratch: Path, arguments: list[str], limits: dict[str, float] | None = None) -> Outcome:
    """Run tests of a tree: if `limits` is given, only those in it, in its order, each for so many seconds.

    The folder `scratch` then holds what they print, in `output`; their other files are removed.
    """
    for name in ("report", "current"):
        (scratch / name).unlink(missing_ok=True)
    (scratch / "tmp").mkdir()
    child = os.fork()
    if not child:
        try:
            _run_here(tree, scratch, arguments, limits)
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(_BROKEN)
    try:
        test, status = _wait(child, scratch, _ALL_SECONDS if limits is None else _COLLECTION_SECONDS)
    finally:
        _clean(child, scratch)
    if status == _BROKEN:
        raise RuntimeError((scratch / "output").read_text(encoding="utf-8"))
    if status != 0:
        return Outcome([test], timed_out=status is None)
    return Outcome(**json.loads((scratch / "report").read_text(encoding="utf-8")))


def _wait(child: int, scratch: Path, seconds: float) -> tuple[str, int | None]:
    """Wait for a process; return its last test, and its exit code unless that test takes too long."""
    test, until = "the collection", time.monotonic() + seconds
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return test, os.waitstatus_to_exitcode(status)
        time.sleep(0.03)
        with suppress(FileNotFoundError):
            test, until = json.loads((scratch / "current").read_text(encoding="utf-8"))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return test, None


def _clean(child: int, scratch: Path) -> None:
    """End what the tests have left running, and remove their files."""
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    for file in scratch.glob("tmp/mailer-postgres-*/data/postmaster.pid"):
        with suppress(OSError, ValueError):
            os.kill(int(file.read_text(encoding="utf-8").split()[0]), signal.SIGQUIT)
    # The server may still be writing its last files.
    while (scratch / "tmp").exists():
        shutil.rmtree(scratch / "tmp", ignore_errors=True)


def _run_here(tree: Path, scratch: Path, arguments: list[str], limits: dict[str, float] | None) -> None:
    os.setsid()
    os.chdir(tree)
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_OCTETS, MOST_OCTETS))
    printed = os.open(scratch / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(printed, stream)
    for name in list(sys.modules):
        if name.partition(".")[0] in ("mailer", "tests"):
            del sys.modules[name]
    sys.path.insert(0, str(tree))
    os.environ["TMPDIR"] = tempfile.tempdir = str(scratch / "tmp")
    # Commands that the tests start run the same code.
    os.environ["PYTHONPATH"] = str(tree)
    watch = _Watch(scratch, limits)
    status: int = pytest.ExitCode.INTERNAL_ERROR
    # At its end pytest raises what objects that were left open have warned of.
    with suppress(Exception):
        status = pytest.main([*_OPTIONS, "--rootdir", str(tree), *arguments], plugins=[watch])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        watch.outcome.failed = watch.outcome.failed or ["pytest itself"]
    _replace(scratch / "report", asdict(watch.outcome))


def _replace(path: Path, value: object) -> None:
    new = path.with_suffix(".new")
    new.write_text(json.dumps(value), encoding="utf-8")
    new.replace(path)


class _Watch:
    """Chooses the tests, and notes how they end."""

    def __init__(self, scratch: Path, limits: dict[str, float] | None) -> None:
        self._scratch = scratch
        self._limits = limits
        self.outcome = Outcome()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self._limits is None:
            return
        found = {item.nodeid: item for item in items}
        items[:] = [found[test] for test in self._limits if test in found]

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        if self._limits is not None:
            _replace(self._scratch / "current", [nodeid, time.monotonic() + self._limits[nodeid]])

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.outcome.failed.append(report.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        seconds = self.outcome.seconds
        seconds[report.nodeid] = seconds.get(report.nodeid, 0.0) + report.duration
        if report.failed:
            self.outcome.failed.append(report.nodeid)
